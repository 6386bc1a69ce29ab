// A provider that does one bad thing to its process for each of its methods.
#include <gantry/common_generated.h>
#include <gantry/message.hpp>

#include <sys/resource.h>

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Self {
  const gantry_host* host;
  std::uint64_t counter = 0;
  std::uint64_t asked = 0;
  std::uint64_t kept = 0;
};

void complete(const Self* s, std::uint64_t token, gantry_code code, std::string_view text = {}) {
  s->host->complete(s->host->ctx, token, code, gantry::to_abi(gantry::as_bytes(text)));
}

bool there(const char* variable) {
  const char* file = std::getenv(variable);
  return file && ::access(file, F_OK) == 0;
}

std::string line_of(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.rfind(key, 0) == 0) return line;
  return {};
}

void call(void* self, const gantry_call* c) {
  auto* s = static_cast<Self*>(self);
  const std::uint64_t token = c->token;
  switch (c->method) {
    case GANTRY_METHOD_CONFIGURE:
    case GANTRY_METHOD_START:
    case GANTRY_METHOD_STOP:
    case GANTRY_METHOD_HEALTH:
      return complete(s, token, GANTRY_OK);
    case 16:
      return s->host->complete(s->host->ctx, token, GANTRY_OK, c->body);
    case 17: {
      volatile int* nowhere = nullptr;
      *nowhere = 1;
      return;
    }
    case 18:
      std::abort();
    case 19:
      for (;;) ::pause();
    case 20: {
      gantry::fb::LogRecordT r;
      r.message = "flood";
      const gantry::Buffer b = gantry::pack(r);
      for (int i = 0; i < 50'000; ++i) s->host->log(s->host->ctx, GANTRY_LOG_INFO, gantry::to_abi(b));
      for (int i = 0; i < 500; ++i) std::fprintf(stderr, "flood of lines\n");
      return complete(s, token, GANTRY_OK);
    }
    case 21: {
      std::vector<char*> all;
      for (;;) {
        char* p = new char[1 << 20];
        std::memset(p, 1, 1 << 20);
        all.push_back(p);
      }
    }
    case 22:
      complete(s, token, GANTRY_OK);
      return complete(s, token, GANTRY_OK);
    case 23:
      return;
    case 24: {
      const std::string garbage(4096, 'G');
      (void)!::write(3, garbage.data(), garbage.size());
      return complete(s, token, GANTRY_OK);
    }
    case 25: {  // forks until it is not let, and leaves the children behind
      int made = 0;
      for (int i = 0; i < 10'000; ++i) {
        const pid_t pid = ::fork();
        if (pid < 0) break;
        if (pid == 0)
          for (;;) ::pause();
        ++made;
      }
      return complete(s, token, GANTRY_OK, std::to_string(made));
    }
    case 26:
      std::exit(0);
    case 27: {  // what can be read from each descriptor
      std::string text;
      for (std::uint32_t i = 0; i < c->nfds; ++i) {
        char buffer[64];
        const auto n = ::read(c->fds[i], buffer, sizeof buffer);
        text += n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : "-";
      }
      return complete(s, token, GANTRY_OK, text);
    }
    case 28:
      ::close(3);
      return;
    case 29:  // FETCH of the service HTTP
      s->asked = token;
      if (s->host->request(s->host->ctx, 3, 19, c->body, token) != GANTRY_OK) complete(s, token, GANTRY_INTERNAL);
      return;
    case 30: {  // who it is
      std::ostringstream out;
      rlimit files{};
      ::getrlimit(RLIMIT_NOFILE, &files);
      out << "uid=" << ::geteuid() << " " << line_of("/proc/self/status", "NoNewPrivs") << " "
          << line_of("/proc/self/status", "Seccomp:") << " " << line_of("/proc/self/status", "CapEff")
          << " files=" << files.rlim_cur << " sda=" << ::access("/dev/tty", F_OK) << " full=" << ::access("/dev/full", F_OK);
      return complete(s, token, GANTRY_OK, out.str());
    }
    case 31: {  // numbers
      gantry::fb::MetricDescT d;
      d.name = "things";
      const gantry::Buffer b = gantry::pack(d);
      const std::uint32_t id = s->host->metric(s->host->ctx, gantry::to_abi(b));
      for (int i = 0; i < 1000; ++i) s->host->metric_add(s->host->ctx, id, 0.5);
      return complete(s, token, GANTRY_OK);
    }
    case 32: {
      const std::string chunk(1000, 'x');
      for (int i = 0; i < 1000; ++i) complete(s, token, GANTRY_MORE, chunk);
      return complete(s, token, GANTRY_OK, "end");
    }
    case 33:
      return complete(s, token, GANTRY_OK, std::to_string(c->deadline_ns));
    case 34:  // counts its calls, so that a new process shows
      return complete(s, token, GANTRY_OK, std::to_string(++s->counter));
    case 35:
      s->kept = token;
      return;  // until it is cancelled
    case 36: {  // from a thread of its own, a while after the call
      const gantry_host* host = s->host;
      std::thread([host, token] {
        ::usleep(2000);
        host->complete(host->ctx, token, GANTRY_OK, {});
      }).detach();
      return;
    }
    default:
      return complete(s, token, GANTRY_UNIMPLEMENTED);
  }
}

}  // namespace

extern "C" {
__attribute__((visibility("default"))) extern const gantry_module gantry_module_v1;
}

namespace {
const gantry_provider provider = {
    sizeof(gantry_provider), CRASHES_FLAGS, "isolator", "crashes", 1, 1, 0,
    [](const gantry_host* host) -> void* {
      if (there("GANTRY_TEST_CRASH")) std::abort();
      if (there("GANTRY_TEST_BLOCK"))
        for (;;) ::pause();
      return new Self{host};
    },
    call,
    [](void* self, std::uint64_t token, gantry_code code, gantry_bytes body) {
      auto* s = static_cast<Self*>(self);
      s->host->complete(s->host->ctx, token, code, body);
    },
    [](void* self, std::uint64_t token) {
      auto* s = static_cast<Self*>(self);
      if (token == s->kept) complete(s, token, GANTRY_CANCELLED);
    },
    [](void* self) { delete static_cast<Self*>(self); },
    nullptr};
}  // namespace

const gantry_module gantry_module_v1 = {{'G', 'A', 'N', 'T', 'R', 'Y', 'M', 0}, 1, 0, sizeof(gantry_module), 1,
                                        sizeof(gantry_provider), &provider, "crashes, test"};
