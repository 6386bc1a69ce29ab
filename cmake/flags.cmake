# Warnings are errors; gcc 12 and clang 14 are both served. Who builds with other compilers or flags may turn that off.
option(GANTRY_WERROR "Warnings are errors" ON)
add_compile_options(-Wall -Wextra -Wpedantic $<$<BOOL:${GANTRY_WERROR}>:-Werror> -Wno-missing-field-initializers -fvisibility=hidden
                    $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 reports false positives from inlined std::string and std::variant code.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict> $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>
                      $<$<COMPILE_LANGUAGE:CXX>:-Wno-stringop-overflow> $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds>)
endif()
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
add_compile_definitions(BOOST_DLL_USE_STD_FS BOOST_ASIO_NO_DEPRECATED)

if(GANTRY_SANITIZE)
  add_compile_options(-fsanitize=${GANTRY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND GANTRY_SANITIZE MATCHES "undefined")
    # clang 14 cannot emit the function check in coroutines ("difference across sections").
    add_compile_options(-fno-sanitize=function)
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    add_compile_options(-fsanitize-ignorelist=${PROJECT_SOURCE_DIR}/cmake/sanitizers.ignore)
  endif()
  add_link_options(-fsanitize=${GANTRY_SANITIZE})
  if(GANTRY_SANITIZE MATCHES "thread")
    # gcc warns that TSan does not see Asio's fences; without them it judges the locks that matter anyway.
    add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)
    add_compile_options($<$<AND:$<CXX_COMPILER_ID:GNU>,$<COMPILE_LANGUAGE:CXX>>:-Wno-tsan>)
  endif()
endif()
# mold when there: a program with sanitizers is linked in a quarter of the time.
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()
add_link_options(-Wl,-z,relro -Wl,-z,now)
# A sanitizer's interceptors satisfy symbols whose library would then be left out, and have nothing to call.
if(NOT GANTRY_SANITIZE)
  add_link_options(-Wl,--as-needed)
endif()
