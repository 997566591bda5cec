# Included at the end of llama-cpp-python's project() through CMAKE_PROJECT_llama_cpp_INCLUDE. Its CMakeLists.txt forces
# llama.cpp's `common` library and an HTTP library on; the Python bindings load neither. A variable hides a cache entry.
set(LLAMA_BUILD_COMMON OFF)
