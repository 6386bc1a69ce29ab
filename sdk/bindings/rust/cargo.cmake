# Modules in Rust in Gantry's own tree: finds cargo and builds a crate that becomes gantry-<kind>-<name>.so.
# Authors elsewhere use cargo alone.
include_guard(GLOBAL)

# Sets GANTRY_CARGO (empty if there is no cargo) and GANTRY_CARGO_RUN, the command with its compiler. The distribution's own
# pair comes first: what is on the PATH before it may belong to a user.
function(gantry_find_cargo)
  find_program(GANTRY_CARGO cargo PATHS /usr/bin NO_DEFAULT_PATH)
  find_program(GANTRY_CARGO cargo)
  find_program(GANTRY_RUSTC rustc PATHS /usr/bin NO_DEFAULT_PATH)
  find_program(GANTRY_RUSTC rustc)
  if(NOT GANTRY_CARGO OR NOT GANTRY_RUSTC)
    set(GANTRY_CARGO "" PARENT_SCOPE)
    message(STATUS "Gantry: no cargo and rustc here, what is written in Rust is left out")
    return()
  endif()
  set(GANTRY_CARGO_RUN ${CMAKE_COMMAND} -E env RUSTC=${GANTRY_RUSTC} CARGO_NET_OFFLINE=true ${GANTRY_CARGO} PARENT_SCOPE)
endfunction()

# gantry_add_rust_module(): target gantry-<kind>-<name> from the crate in the current folder (module.toml beside Cargo.toml)
# against the crate `gantry` of the build, and its `cargo test` as a test. The sources are copied, so the folder stays clean.
function(gantry_add_rust_module)
  gantry_find_cargo()
  if(NOT GANTRY_CARGO)
    return()
  endif()
  gantry_read_manifest(${CMAKE_CURRENT_SOURCE_DIR}/module.toml kind name)
  set(target gantry-${kind}-${name})
  if(NOT GANTRY_MODULE_OUTPUT_DIR)
    set(GANTRY_MODULE_OUTPUT_DIR ${CMAKE_CURRENT_BINARY_DIR})
  endif()
  file(STRINGS ${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml line REGEX "^name *=" LIMIT_COUNT 1)
  string(REGEX REPLACE "^name *= *\"([^\"]+)\".*" "\\1" package "${line}")
  string(REPLACE "-" "_" library ${package})
  set(work ${CMAKE_CURRENT_BINARY_DIR}/crate)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}
    ${CMAKE_CURRENT_SOURCE_DIR}/src/*.rs ${CMAKE_CURRENT_SOURCE_DIR}/tests/*.rs)
  list(APPEND sources module.toml)
  set(copies)
  foreach(source IN LISTS sources)
    list(APPEND copies COMMAND ${CMAKE_COMMAND} -E copy_if_different ${CMAKE_CURRENT_SOURCE_DIR}/${source} ${work}/${source})
  endforeach()
  # The path of the crate `gantry` is the installation's in the author's file; here it is the one just made.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml)
  file(READ ${CMAKE_CURRENT_SOURCE_DIR}/Cargo.toml manifest)
  string(REGEX REPLACE "gantry *= *\\{ *path *= *\"[^\"]*\"" "gantry = { path = \"${PROJECT_BINARY_DIR}/rust/gantry\"" manifest "${manifest}")
  file(CONFIGURE OUTPUT ${work}/Cargo.toml CONTENT "${manifest}" @ONLY)
  set(cargo ${GANTRY_CARGO_RUN})
  add_custom_command(
    OUTPUT ${GANTRY_MODULE_OUTPUT_DIR}/${target}.so
    ${copies}
    COMMAND ${cargo} build --release --offline --quiet --manifest-path ${work}/Cargo.toml --target-dir ${work}/target
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${work}/target/release/lib${library}.so ${GANTRY_MODULE_OUTPUT_DIR}/${target}.so
    COMMAND ${CMAKE_COMMAND} -E touch ${GANTRY_MODULE_OUTPUT_DIR}/${target}.so
    DEPENDS ${sources} Cargo.toml gantry-bindings-rust ${PROJECT_BINARY_DIR}/sdk/bindings/rust.stamp
    COMMENT "cargo ${target}.so"
    VERBATIM)
  add_custom_target(${target} ALL DEPENDS ${GANTRY_MODULE_OUTPUT_DIR}/${target}.so)
  if(BUILD_TESTING)
    add_test(NAME ${target} COMMAND ${cargo} test --release --offline --quiet --manifest-path ${work}/Cargo.toml --target-dir ${work}/target)
    set_tests_properties(${target} PROPERTIES LABELS module TIMEOUT 300)
    if(GANTRY_MODULE_TOOL)
      add_test(NAME ${target}-check COMMAND ${GANTRY_MODULE_TOOL} check ${GANTRY_MODULE_OUTPUT_DIR}/${target}.so)
      set_tests_properties(${target}-check PROPERTIES LABELS module)
    endif()
  endif()
endfunction()
