// One request to a host service with a callback. A callback belongs to the host and goes with it, where a coroutine
// that waits for an answer would be left behind when the module is destroyed before the answer.
#pragma once
#include <gantry/host.hpp>

namespace gantry::framework_services {

template <class Method, class T>
void ask(Host& host, fb::host::Service service, Method method, const T& message, Function<void(Result<Buffer>)> done) {
  const Buffer body = pack(message);
  host.stream(service, static_cast<std::uint32_t>(method), body,
              [done = std::move(done)](gantry_code code, Bytes bytes) mutable {
                if (code == GANTRY_MORE) return;
                if (code < 0)
                  done(unpack_error(code, bytes));
                else
                  done(Buffer(bytes));
              });
}

}  // namespace gantry::framework_services
