# cmake -DIN=file -DOUT=file.cpp -P embed.cmake: the bytes of a file as a C++ array.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${OUT} "#include <cstddef>\n#include <cstdint>\nnamespace gantry::gateway_mesos::wire {\n"
  "extern const std::uint8_t compiled_schema[];\nextern const std::size_t compiled_schema_size;\n"
  "alignas(16) const std::uint8_t compiled_schema[] = {${bytes}};\n"
  "const std::size_t compiled_schema_size = sizeof compiled_schema;\n}\n")
