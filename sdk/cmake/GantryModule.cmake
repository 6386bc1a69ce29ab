# gantry_add_module(): builds gantry-<kind>-<name>.so from the folder it is called in. The same file serves Gantry's own
# tree and, installed, everybody else's.
#
# The folder holds module.toml (the manifest), the code (.cpp or .c), one file module.cpp or module.c that exports the
# descriptor (C++: only GANTRY_MODULE), and <anything>_test.cpp. A folder without module.cpp or module.c exports the
# descriptor from any of its sources. Made are:
#   gantry-<kind>-<name>       the .so, exporting one symbol, the manifest embedded as ELF note
#   gantry-<kind>-<name>-lib   a static library of the code without module.cpp, for tests
#   gantry-<kind>-<name>-test  the tests, where there are any, BUILD_TESTING is on and GoogleTest is found
#
#   gantry_add_module([LIBRARIES lib...] [SOURCES file...])
#
# Variables that may be set before the call:
#   GANTRY_MODULE_OUTPUT_DIR   where the .so is put; default: the current binary directory
#   GANTRY_MODULE_INSTALL_DIR  where `cmake --install` puts it; default: the module folder of the Gantry that was found
#   GANTRY_MODULE_INSTALL      OFF: no install rule
include_guard(GLOBAL)
set(GANTRY_MODULE_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})

# Headers from schemas, into `out`/gantry. At build time and never installed: a generated header is tied to the version
# of flatbuffers that compiles it. Also makes the target gantry-schema. With OUTLINE, the script outline_messages.py, what
# the functions of a header do is compiled once, in the library gantry-messages; it pays for a tree of hundreds of files.
function(gantry_generate_messages schema_dir out)
  cmake_parse_arguments(ARG "" "OUTLINE" "" ${ARGN})
  find_program(FLATC flatc)
  if(NOT FLATC)
    message(FATAL_ERROR "Gantry: flatc was not found; install flatbuffers-compiler, or set -DFLATC=/path/of/flatc")
  endif()
  file(GLOB schemas CONFIGURE_DEPENDS ${schema_dir}/*.fbs)
  set(outputs)
  set(sources)
  foreach(schema IN LISTS schemas)
    get_filename_component(stem ${schema} NAME_WE)
    set(header ${out}/gantry/${stem}_generated.h)
    set(into ${out}/gantry)
    set(source)
    set(outline)
    if(ARG_OUTLINE)
      set(into ${out}/inline)
      set(source ${out}/source/${stem}_generated.cpp)
      set(outline COMMAND ${Python3_EXECUTABLE} -B ${ARG_OUTLINE} ${into}/${stem}_generated.h ${header} ${source})
    endif()
    add_custom_command(
      OUTPUT ${header} ${source}
      COMMAND ${FLATC} --cpp --scoped-enums --cpp-std c++17 --gen-object-api --gen-name-strings
              --filename-suffix _generated -o ${into} ${schema}
      COMMAND ${FLATC} --schema -b -o ${out}/gantry ${schema}
      ${outline}
      DEPENDS ${schemas} ${ARG_OUTLINE}
      COMMENT "flatc ${stem}.fbs"
      VERBATIM)
    list(APPEND outputs ${header})
    list(APPEND sources ${source})
  endforeach()
  add_custom_target(gantry-schema DEPENDS ${outputs})
  if(ARG_OUTLINE)
    add_library(gantry-messages STATIC ${sources})
    add_dependencies(gantry-messages gantry-schema)
    target_include_directories(gantry-messages SYSTEM PUBLIC ${out})
    target_compile_features(gantry-messages PUBLIC cxx_std_20)
    # Each program and module takes the functions it calls, not all.
    target_compile_options(gantry-messages PRIVATE -ffunction-sections)
    target_link_options(gantry-messages INTERFACE LINKER:--gc-sections)
  endif()
endfunction()

# Kind and name as the manifest gives them.
function(gantry_read_manifest manifest kind_out name_out)
  file(STRINGS ${manifest} lines REGEX "^(kind|name) *=")
  foreach(line IN LISTS lines)
    if(line MATCHES "^kind *= *\"([a-z-]+)\"")
      set(kind ${CMAKE_MATCH_1})
    elseif(line MATCHES "^name *= *\"([a-z0-9-]+)\"")
      set(name ${CMAKE_MATCH_1})
    endif()
  endforeach()
  if(NOT kind OR NOT name)
    message(FATAL_ERROR "${manifest}: needs kind = \"...\" and name = \"...\"")
  endif()
  set(${kind_out} ${kind} PARENT_SCOPE)
  set(${name_out} ${name} PARENT_SCOPE)
endfunction()

function(gantry_add_module)
  cmake_parse_arguments(ARG "" "" "LIBRARIES;SOURCES" ${ARGN})
  if(NOT CMAKE_C_COMPILER_LOADED)
    message(FATAL_ERROR "gantry_add_module() embeds the manifest through C: write project(... LANGUAGES C CXX)")
  endif()
  set(manifest ${CMAKE_CURRENT_SOURCE_DIR}/module.toml)
  gantry_read_manifest(${manifest} kind name)
  set(target gantry-${kind}-${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${manifest})

  set(sources ${ARG_SOURCES})
  if(NOT sources)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  endif()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.(cpp|c)$")
  set(entry ${sources})
  list(FILTER entry INCLUDE REGEX "(^|/)module\\.(cpp|c)$")
  list(FILTER sources EXCLUDE REGEX "(_test|(^|/)module)\\.(cpp|c)$")

  set(cmake_dir ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  set(note ${CMAKE_CURRENT_BINARY_DIR}/manifest_note.c)
  configure_file(${cmake_dir}/manifest_note.c.in ${note} @ONLY)
  set_source_files_properties(${note} PROPERTIES OBJECT_DEPENDS ${manifest})

  set(hidden -fvisibility=hidden $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>)
  get_property(already DIRECTORY PROPERTY COMPILE_OPTIONS)
  if("-fvisibility=hidden" IN_LIST already)
    set(hidden)
  endif()
  if(sources)
    add_library(${target}-lib STATIC ${sources})
    target_link_libraries(${target}-lib PUBLIC Gantry::sdk ${ARG_LIBRARIES})
    target_compile_options(${target}-lib PRIVATE ${hidden})
    set_target_properties(${target}-lib PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
  add_library(${target} MODULE ${entry} ${note})
  target_compile_options(${target} PRIVATE ${hidden})
  if(NOT GANTRY_MODULE_OUTPUT_DIR)
    set(GANTRY_MODULE_OUTPUT_DIR ${CMAKE_CURRENT_BINARY_DIR})
  endif()
  # What the author tells `gantry-module check` is found beside the module.
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/conformance.toml)
    configure_file(${CMAKE_CURRENT_SOURCE_DIR}/conformance.toml ${GANTRY_MODULE_OUTPUT_DIR}/${target}.conformance.toml COPYONLY)
  endif()
  # No path of the build machine in the result: a module finds its libraries as the system does.
  set_target_properties(${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${GANTRY_MODULE_OUTPUT_DIR}
                                             SKIP_BUILD_RPATH ON)
  target_link_libraries(${target} PRIVATE Gantry::sdk ${ARG_LIBRARIES})
  if(sources)
    target_link_libraries(${target} PRIVATE ${target}-lib)
  endif()
  # -u: the descriptor may lie in the library, from which the linker takes only what is asked for.
  target_link_options(${target} PRIVATE -Wl,-u,gantry_module_v1 -Wl,--version-script=${cmake_dir}/module.map
                                        -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now)
  if(NOT DEFINED GANTRY_MODULE_INSTALL OR GANTRY_MODULE_INSTALL)
    if(NOT GANTRY_MODULE_INSTALL_DIR)
      include(GNUInstallDirs)
      set(GANTRY_MODULE_INSTALL_DIR ${CMAKE_INSTALL_LIBDIR}/gantry/modules)
    endif()
    install(TARGETS ${target} LIBRARY DESTINATION ${GANTRY_MODULE_INSTALL_DIR} COMPONENT modules)
  endif()

  # Tests in C have a main() of their own and need no framework.
  set(plain ${tests})
  list(FILTER plain INCLUDE REGEX "_test\\.c$")
  if(plain AND BUILD_TESTING AND sources)
    add_executable(${target}-test ${plain})
    target_link_libraries(${target}-test PRIVATE ${target}-lib)
    add_test(NAME ${target} COMMAND ${target}-test)
    set_tests_properties(${target} PROPERTIES LABELS module SKIP_RETURN_CODE 77)
  elseif(tests AND BUILD_TESTING AND sources)
    if(TARGET GTest::gtest_main AND TARGET GTest::gmock)
      add_executable(${target}-test ${tests})
      target_compile_options(${target}-test PRIVATE $<$<CONFIG:Release>:-O0>)  # compiled more often than run
      target_link_libraries(${target}-test PRIVATE ${target}-lib Gantry::testing GTest::gmock GTest::gtest_main)
      add_test(NAME ${target} COMMAND ${target}-test)
      set_tests_properties(${target} PROPERTIES LABELS module SKIP_RETURN_CODE 77)
    elseif(NOT GANTRY_SAID_NO_GTEST)
      set(GANTRY_SAID_NO_GTEST ON CACHE INTERNAL "")
      message(STATUS "Gantry: no GoogleTest here, unit tests are left out (Debian: libgtest-dev libgmock-dev)")
    endif()
  endif()
  # Outside Gantry's tree the conformance kit is a test like others.
  if(BUILD_TESTING AND GANTRY_MODULE_TOOL)
    add_test(NAME ${target}-check COMMAND ${GANTRY_MODULE_TOOL} check $<TARGET_FILE:${target}>)
    set_tests_properties(${target}-check PROPERTIES LABELS module)
  endif()
endfunction()
