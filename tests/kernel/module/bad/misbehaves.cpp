// A provider that breaks one rule of the ABI for each of its methods. Raw, because the wrapper would not let it.
#include <gantry/common_generated.h>
#include <gantry/message.hpp>

#include <unistd.h>

#include <stdexcept>
#include <thread>

namespace {

using gantry::Bytes;

struct Self {
  const gantry_host* host;
  std::uint64_t held = 0;  // token of a call that is kept open
  int held_fd = -1;
  std::thread thread;
  std::uint64_t timer = 0;
};

void complete(const Self* s, std::uint64_t token, gantry_code code, Bytes b = {}) {
  s->host->complete(s->host->ctx, token, code, gantry::to_abi(b));
}

void log(const Self* s, const char* text) {
  gantry::fb::LogRecordT r;
  r.message = text;
  const gantry::Buffer b = gantry::pack(r);
  s->host->log(s->host->ctx, GANTRY_LOG_INFO, gantry::to_abi(b));
}

void call(void* self, const gantry_call* c) {
  auto* s = static_cast<Self*>(self);
  const std::uint64_t token = c->token;
  switch (c->method) {
    case 16:
      return complete(s, token, GANTRY_OK, gantry::from_abi(c->body));  // echo
    case 17:                                                            // twice
      complete(s, token, GANTRY_OK);
      return complete(s, token, GANTRY_OK);
    case 18:
      s->held = token;
      return;  // never, not even when cancelled
    case 19:
      throw std::runtime_error("thrown over the line");
    case 20: {  // blocks its strand until somebody writes to the descriptor
      char byte = 0;
      const auto n = ::read(c->fds[0], &byte, 1);
      return complete(s, token, n == 1 ? GANTRY_OK : GANTRY_UNKNOWN);
    }
    case 21:  // floods the log
      for (int i = 0; i < 10'000; ++i) log(s, "flood");
      return complete(s, token, GANTRY_OK);
    case 22:  // completed from a thread of its own, some time after it was cancelled
      s->held = token;
      s->held_fd = ::dup(c->fds[0]);
      return;
    case 23: {  // asks for a host service
      const gantry_code code = s->host->request(s->host->ctx, 3, 18, c->body, token);
      if (code != GANTRY_OK) complete(s, token, code);
      return;
    }
    case 24:  // tokens it was never given
      complete(s, 0, GANTRY_OK);
      complete(s, token + 1, GANTRY_OK);
      complete(s, token ^ (1ull << 40), GANTRY_OK);
      complete(s, ~0ull, GANTRY_OK);
      return complete(s, token, GANTRY_OK);
    case 25:
      return complete(s, token, -99);
    case 26:
      return complete(s, token, GANTRY_NOT_FOUND, gantry::as_bytes("this is no flatbuffer"));
    case 27: {  // a stream without end
      static const std::uint8_t chunk[4096] = {};
      for (int i = 0; i < 1'000; ++i) complete(s, token, GANTRY_MORE, chunk);
      return complete(s, token, GANTRY_OK);
    }
    case 28:  // ends, then goes on
      complete(s, token, GANTRY_OK);
      return complete(s, token, GANTRY_MORE);
    case 29:  // asks for the STORE, which its manifest does not list
      s->host->request(s->host->ctx, 2, 16, {}, token);
      return;
    case 30: {  // a timer that is cancelled when due, and one that is not
      s->held = token;
      const std::uint64_t at = s->host->now(s->host->ctx) + 1'000'000'000;
      s->timer = s->host->timer(
          s->host->ctx, at,
          [](void* p) { complete(static_cast<Self*>(p), static_cast<Self*>(p)->held, GANTRY_INTERNAL); }, s);
      s->host->timer(
          s->host->ctx, at,
          [](void* p) {
            complete(static_cast<Self*>(p), static_cast<Self*>(p)->held, GANTRY_OK, gantry::as_bytes("timer"));
          },
          s);
      s->host->timer_cancel(s->host->ctx, s->timer);
      return;
    }
    case 31:  // offload, then post
      s->held = token;
      s->host->offload(
          s->host->ctx,
          [](void* p) {
            auto* o = static_cast<Self*>(p);
            o->host->post(
                o->host->ctx,
                [](void* q) {
                  complete(static_cast<Self*>(q), static_cast<Self*>(q)->held, GANTRY_OK, gantry::as_bytes("posted"));
                },
                p);
          },
          s);
      return;
    case 32: {  // log records and metrics that are no flatbuffers
      s->host->log(s->host->ctx, 77, gantry::to_abi(gantry::as_bytes("nonsense")));
      s->host->metric_add(s->host->ctx, s->host->metric(s->host->ctx, gantry::to_abi(gantry::as_bytes("nonsense"))), 1);
      s->host->timer_cancel(s->host->ctx, 12345);
      s->host->request_cancel(s->host->ctx, 12345);
      return complete(s, token, GANTRY_OK);
    }
    case GANTRY_METHOD_CONFIGURE:
    case GANTRY_METHOD_START:
    case GANTRY_METHOD_STOP:
      return complete(s, token, GANTRY_OK);
    default:
      return complete(s, token, GANTRY_UNIMPLEMENTED);
  }
}

void* create(const gantry_host* host) { return new Self{host, 0, -1, {}, 0}; }

void reply(void* self, std::uint64_t token, gantry_code code, gantry_bytes body) {
  complete(static_cast<Self*>(self), token, code, gantry::from_abi(body));
}

void cancel(void* self, std::uint64_t token) {
  auto* s = static_cast<Self*>(self);
  if (s->held_fd < 0 || s->held != token) return;
  s->thread = std::thread([s, token, fd = s->held_fd] {
    char byte = 0;
    const auto n = ::read(fd, &byte, 1);
    complete(s, token, n == 1 ? GANTRY_CANCELLED : GANTRY_UNKNOWN);
    ::close(fd);
  });
}

void destroy(void* self) {
  auto* s = static_cast<Self*>(self);
  if (s->thread.joinable()) s->thread.join();
  delete s;
}

constexpr gantry_provider providers[] = {
    {sizeof(gantry_provider), 0, "fetcher", "misbehaves", 1, 1, 0, create, call, reply, cancel, destroy, nullptr}};

}  // namespace

extern "C" {
extern const gantry_module gantry_module_v1 __attribute__((visibility("default")));
const gantry_module gantry_module_v1 = {GANTRY_MAGIC, 1,           0, sizeof(gantry_module), 1, sizeof(gantry_provider),
                                        providers,    "test build"};
}
