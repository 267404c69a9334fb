# One interface target, retile_flags, holds how our own code is compiled.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

add_library(retile_flags INTERFACE)
target_compile_definitions(retile_flags INTERFACE _GNU_SOURCE)
target_include_directories(retile_flags INTERFACE
    "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
target_compile_options(retile_flags INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes
    -Wmissing-prototypes -Wundef -Wvla -Wcast-qual -Wswitch
    $<$<BOOL:${RETILE_WERROR}>:-Werror>
    $<$<CONFIG:Debug>:-O1>
    $<$<CONFIG:Release>:-fstack-protector-strong>)
target_compile_definitions(retile_flags INTERFACE
    $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
target_link_options(retile_flags INTERFACE
    -Wl,--as-needed
    $<$<CONFIG:Release>:-Wl,-z,relro,-z,now>)

set(retile_sanitizers "${RETILE_SANITIZE}")
if(RETILE_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "RETILE_FUZZ needs Clang (use the preset fuzz)")
    endif()
    string(JOIN "," retile_sanitizers ${RETILE_SANITIZE} fuzzer-no-link)
endif()
if(retile_sanitizers)
    target_compile_options(retile_flags INTERFACE
        -fsanitize=${retile_sanitizers} -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
    target_link_options(retile_flags INTERFACE
        -fsanitize=${retile_sanitizers})
endif()
