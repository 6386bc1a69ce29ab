// Writes the address of each artifact into a file of the sandbox. Throws when told to: nothing may cross the line.
#include <gantry/fetcher.hpp>

#include <cstdio>
#include <stdexcept>

namespace {

using namespace gantry;

class Golden final : public Fetcher {
 public:
  Task<Status> fetch(Request<fb::fetcher::Fetch> r, std::uint64_t /*token*/) override {
    if (!r->uris()) co_return ok;
    for (const auto* uri : *r->uris()) {
      const std::string address(text(uri->value())), directory(text(r->directory()));
      if (address == "throw:") throw std::runtime_error("as it was told");
      if (address == "missing:") co_return fail(Code::not_found, "nothing at " + address);
      auto writing = host().offload([address, directory]() -> Status {
        std::FILE* f = std::fopen((directory + "/fetched").c_str(), "a");
        if (!f) return fail(Code::unavailable, "cannot write into " + directory);
        std::fprintf(f, "%s\n", address.c_str());
        std::fclose(f);
        return ok;
      });
      Status written = co_await std::move(writing);
      if (!written.has_value()) co_return written;
    }
    co_return ok;
  }
};

}  // namespace

GANTRY_MODULE(Golden, "golden")
