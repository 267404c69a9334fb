# What a folder's CMakeLists.txt calls.  SOURCES and HEADERS are relative to
# the folder; DEPS are targets.
#
#   retile_library(NAME SOURCES a.c HEADERS a.h DEPS base)
#   retile_program(NAME SOURCES main.c DEPS store)          installed
#   retile_test(NAME LABEL unit SOURCES test_a.c DEPS base [ARGS ...])
#   retile_fuzz(NAME SOURCES fuzz_a.c DEPS ptc CORPUS dir)
#   retile_script_test(NAME LABEL e2e SCRIPT a.sh [ARGS ...] [TIMEOUT s])
#   retile_messages(NAME SET symbol PROTOS a.proto ...)     protoc-c's code, and the
#       FileDescriptorSet as bytes (symbol, symbol_bytes), without INTERNAL ones
#   retile_man(man/retile.1.scd ...)                        installed
#
# Tests see RETILE_BIN (the folder of the programs), RETILE_SOURCE (the root of
# the tree), RETILE_BUILD and RETILE_PYTHON in their environment; exit 77 skips.

function(retile_library name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;DEPS")
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC retile_flags ${arg_DEPS})
    target_sources(${name} PUBLIC FILE_SET HEADERS
        BASE_DIRS "${PROJECT_SOURCE_DIR}"
        FILES ${arg_HEADERS})
    set_target_properties(${name} PROPERTIES
        OUTPUT_NAME retile_${name}
        VERIFY_INTERFACE_HEADER_SETS ON)
endfunction()

function(retile_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE retile_flags ${arg_DEPS})
    install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endfunction()

function(retile_test_properties name label timeout)
    set(env
        "RETILE_BIN=${PROJECT_BINARY_DIR}/bin"
        "RETILE_SOURCE=${PROJECT_SOURCE_DIR}"
        "RETILE_BUILD=${PROJECT_BINARY_DIR}"
        "RETILE_PYTHON=${RETILE_PYTHON}"
        "UBSAN_OPTIONS=print_stacktrace=1"
        "TSAN_OPTIONS=ignore_noninstrumented_modules=1"
        "ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1")
    set_tests_properties(${name} PROPERTIES
        LABELS "${label}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
        ENVIRONMENT "${env}")
endfunction()

function(retile_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT"
        "SOURCES;DEPS;ARGS")
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE
        retile_flags PkgConfig::cmocka ${arg_DEPS})
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
    add_test(NAME ${name} COMMAND ${name} ${arg_ARGS})
    retile_test_properties(${name} ${arg_LABEL} ${arg_TIMEOUT})
endfunction()

function(retile_fuzz name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "CORPUS" "SOURCES;DEPS")
    set(corpus "${CMAKE_CURRENT_SOURCE_DIR}/${arg_CORPUS}")
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE retile_flags ${arg_DEPS})
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
    if(RETILE_FUZZ)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
        add_test(NAME ${name} COMMAND ${name} -runs=0 "${corpus}")
    else()
        target_sources(${name} PRIVATE
            "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.c")
        add_test(NAME ${name} COMMAND ${name} "${corpus}")
    endif()
    retile_test_properties(${name} fuzz 300)
endfunction()

function(retile_script_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;SCRIPT;TIMEOUT" "ARGS")
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 600)
    endif()
    add_test(NAME ${name}
        COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/${arg_SCRIPT}" ${arg_ARGS})
    retile_test_properties(${name} ${arg_LABEL} ${arg_TIMEOUT})
endfunction()

function(retile_man)
    if(NOT SCDOC)
        return()
    endif()
    set(pages "")
    foreach(source IN LISTS ARGN)
        cmake_path(GET source STEM LAST_ONLY page)
        cmake_path(GET page EXTENSION LAST_ONLY section)
        string(SUBSTRING "${section}" 1 -1 section)
        set(input "${CMAKE_CURRENT_SOURCE_DIR}/${source}")
        set(output "${CMAKE_CURRENT_BINARY_DIR}/${page}")
        add_custom_command(OUTPUT "${output}"
            COMMAND sh -c "\"$0\" <\"$1\" >\"$2\""
                "${SCDOC}" "${input}" "${output}"
            DEPENDS "${input}" VERBATIM)
        list(APPEND pages "${output}")
        install(FILES "${output}"
            DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}")
    endforeach()
    add_custom_target(man ALL DEPENDS ${pages})
endfunction()

function(retile_messages name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "SET" "PROTOS;INTERNAL;DEPS")
    cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR
        BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE folder)
    set(root "${PROJECT_BINARY_DIR}/${folder}")
    set(path -I "${CMAKE_CURRENT_SOURCE_DIR}")
    set(inputs "")
    set(sources "")
    list(TRANSFORM arg_PROTOS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/"
        OUTPUT_VARIABLE inputs)
    file(MAKE_DIRECTORY "${root}")
    foreach(proto IN LISTS arg_PROTOS arg_INTERNAL)
        string(REGEX REPLACE "\\.proto$" ".pb-c" stem "${proto}")
        # Imports are not followed: all are inputs of each.
        add_custom_command(
            OUTPUT "${root}/${stem}.c" "${root}/${stem}.h"
            COMMAND "${PROTOC_C}" ${path} "--c_out=${root}"
                "${CMAKE_CURRENT_SOURCE_DIR}/${proto}"
            DEPENDS ${inputs} "${CMAKE_CURRENT_SOURCE_DIR}/${proto}" VERBATIM)
        list(APPEND sources "${root}/${stem}.c")
    endforeach()
    set(set "${root}/${arg_SET}")
    add_custom_command(OUTPUT "${set}.c"
        COMMAND "${PROTOC_C}" ${path} --include_imports
            "--descriptor_set_out=${set}.pb" ${inputs}
        COMMAND "${CMAKE_COMMAND}" "-DINPUT=${set}.pb" "-DOUTPUT=${set}.c"
            "-DNAME=${arg_SET}" -P "${PROJECT_SOURCE_DIR}/cmake/embed.cmake"
        DEPENDS ${inputs} "${PROJECT_SOURCE_DIR}/cmake/embed.cmake" VERBATIM)
    add_library(${name} STATIC ${sources} "${set}.c")
    target_link_libraries(${name} PUBLIC
        retile_flags PkgConfig::protobufc ${arg_DEPS})
    # Its headers are not held to our warnings either.
    target_include_directories(${name} SYSTEM PUBLIC
        "${root}" "${PROJECT_BINARY_DIR}")
    target_compile_options(${name} PRIVATE -w
        # Their __INIT casts; GCC sees that it stands in a system's header.
        INTERFACE $<$<C_COMPILER_ID:Clang>:-Wno-cast-qual>)
    set_target_properties(${name} PROPERTIES OUTPUT_NAME retile_${name})
endfunction()
