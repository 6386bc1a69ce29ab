# gantry_add_module(): builds gantry-<kind>-<name>.so from the folder it is called in.
#
# The folder holds module.toml (the manifest), <anything>.cpp (the library code), module.cpp (only GANTRY_MODULE) and
# <anything>_test.cpp. Made are:
#   gantry-<kind>-<name>       the .so, exporting one symbol, the manifest embedded as ELF note
#   gantry-<kind>-<name>-lib   a static library of the code without module.cpp, for tests
#   gantry-<kind>-<name>-test  the tests, where there are any and GTest is found
#
#   gantry_add_module([LIBRARIES lib...] [SOURCES file...])
include_guard(GLOBAL)
set(GANTRY_MODULE_CMAKE_DIR ${CMAKE_CURRENT_LIST_DIR})

function(gantry_add_module)
  cmake_parse_arguments(ARG "" "" "LIBRARIES;SOURCES" ${ARGN})
  set(manifest ${CMAKE_CURRENT_SOURCE_DIR}/module.toml)
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
  set(target gantry-${kind}-${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${manifest})

  set(sources ${ARG_SOURCES})
  if(NOT sources)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  endif()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|/module)\\.cpp$")

  set(note ${CMAKE_CURRENT_BINARY_DIR}/manifest_note.c)
  configure_file(${GANTRY_MODULE_CMAKE_DIR}/manifest_note.c.in ${note} @ONLY)
  set_source_files_properties(${note} PROPERTIES OBJECT_DEPENDS ${manifest})

  if(sources)
    add_library(${target}-lib STATIC ${sources})
    target_link_libraries(${target}-lib PUBLIC Gantry::sdk ${ARG_LIBRARIES})
    set_target_properties(${target}-lib PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
  add_library(${target} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/module.cpp ${note})
  set_target_properties(${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/gantry/modules)
  target_link_libraries(${target} PRIVATE Gantry::sdk ${ARG_LIBRARIES})
  if(sources)
    target_link_libraries(${target} PRIVATE ${target}-lib)
  endif()
  target_link_options(${target} PRIVATE -Wl,--version-script=${GANTRY_MODULE_CMAKE_DIR}/module.map -Wl,--gc-sections)
  install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/gantry/modules COMPONENT modules)

  if(tests AND BUILD_TESTING AND TARGET GTest::gtest_main AND sources)
    add_executable(${target}-test ${tests})
    target_link_libraries(${target}-test PRIVATE ${target}-lib Gantry::testing GTest::gmock GTest::gtest_main)
    add_test(NAME ${target} COMMAND ${target}-test)
    set_tests_properties(${target} PROPERTIES LABELS module SKIP_RETURN_CODE 77)
  endif()
endfunction()
