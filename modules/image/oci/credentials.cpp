#include "credentials.hpp"

#include "digest.hpp"
#include "json.hpp"
#include "reference.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <csignal>

extern char** environ;

namespace gantry::image_oci {
namespace {

constexpr std::string_view kHubKey = "https://index.docker.io/v1/";

bool is_program_name(std::string_view s) {
  return !s.empty() && s.size() <= 64 &&
         s.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == std::string_view::npos;
}

// Runs docker-credential-<name> get: the server's name in, JSON out, within ten seconds.
Result<Account> ask_helper(const std::string& name, const std::string& server, const Cancelled& cancelled) {
  const std::string program = "docker-credential-" + name;
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0) return os_error(program, errno);
  const Fd in_read(in[0]);
  Fd in_write(in[1]);
  if (::pipe2(out, O_CLOEXEC) != 0) return os_error(program, errno);
  const Fd out_read(out[0]);
  Fd out_write(out[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::string arg0 = program, arg1 = "get";
  char* argv[] = {arg0.data(), arg1.data(), nullptr};
  pid_t pid = 0;
  const int rc = ::posix_spawnp(&pid, program.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (rc != 0)
    return fail(Code::failed_precondition,
                "credential helper " + program + " cannot be run: " + std::string(os_error("start", rc).message));
  out_write = Fd();
  (void)write_all(in_write.get(), server.data(), server.size());  // shorter than a pipe; one that does not read fails below
  in_write = Fd();
  std::string text;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  bool late = false;
  for (;;) {
    pollfd p{out_read.get(), POLLIN, 0};
    const int ready = ::poll(&p, 1, 100);
    if (cancelled() || std::chrono::steady_clock::now() > end) {
      late = true;
      ::kill(pid, SIGKILL);
      break;
    }
    if (ready <= 0) continue;
    char block[4096];
    const ssize_t n = ::read(out_read.get(), block, sizeof block);
    if (n <= 0) break;
    text.append(block, static_cast<std::size_t>(n));
    if (text.size() > 65536) ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (late)
    return cancelled() ? cancelled_error() : fail(Code::deadline_exceeded, "credential helper " + program + " did not answer within 10 s");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail(Code::failed_precondition, "credential helper " + program + " has no account for " + server + ", or failed");
  GANTRY_TRY(const json::object object, parse_object(text, "the answer of credential helper " + program));
  const Fields f(object, "the answer of credential helper " + program + ":");
  Account a;
  GANTRY_TRY(a.user, f.text("Username"));
  GANTRY_TRY(a.secret, f.text("Secret"));
  if (a.user == "<token>") {
    a.identity_token = std::move(a.secret);
    a.user.clear(), a.secret.clear();
  }
  return a;
}

}  // namespace

std::string registry_of_key(std::string_view key) {
  const bool url = key.find("://") != std::string_view::npos;
  if (url) key = key.substr(key.find("://") + 3);
  // A URL's path ("/v1/") says nothing about repositories.
  if (url) key = key.substr(0, key.find('/'));
  while (key.ends_with('/')) key.remove_suffix(1);
  const std::string_view host = key.substr(0, key.find('/'));
  if (host == "index.docker.io" || host == kDockerHubApi) return std::string(kDockerHub) + std::string(key.substr(host.size()));
  return std::string(key);
}

Result<Credentials> Credentials::parse(std::string_view text, std::string_view what, bool helpers) {
  Credentials out;
  GANTRY_TRY(const json::object object, parse_object(text, what));
  const Fields f(object, std::string(what) + ":");
  // Files of old have the entries at the top.
  GANTRY_TRY(const Fields auths, f.has("auths") ? f.object("auths") : Result<Fields>(f));
  const bool old = !f.has("auths") && !f.has("credHelpers") && !f.has("credsStore");
  if (f.has("auths") || old) {
    const json::value* inner = object.if_contains("auths");
    const json::object& entries = inner && inner->is_object() ? inner->get_object() : object;
    for (const auto& each : entries) {
      const std::string key(each.key());
      if (!each.value().is_object()) {
        if (old) continue;
        return fail(Code::invalid_argument, auths.where() + " " + key + " is not an object");
      }
      const Fields one(each.value().get_object(), std::string(what) + ": auths." + key);
      Entry e;
      e.at = registry_of_key(key);
      GANTRY_TRY(e.account.user, one.text("username"));
      GANTRY_TRY(e.account.secret, one.text("password"));
      GANTRY_TRY(e.account.identity_token, one.text("identitytoken"));
      GANTRY_TRY(e.account.registry_token, one.text("registrytoken"));
      GANTRY_TRY(const std::string coded, one.text("auth"));
      if (!coded.empty()) {
        const auto both = base64_decode(coded);
        const std::size_t colon = both ? both->find(':') : std::string::npos;
        if (colon == std::string::npos) return fail(Code::invalid_argument, one.where() + ".auth is not user:password in base64");
        e.account.user = both->substr(0, colon);
        e.account.secret = both->substr(colon + 1);
        while (e.account.secret.ends_with('\0')) e.account.secret.pop_back();
      }
      if (e.account.user.empty() && e.account.identity_token.empty() && e.account.registry_token.empty()) continue;  // kept by a helper
      out.entries_.push_back(std::move(e));
    }
  }
  if (!helpers) return out;
  GANTRY_TRY(const auto each, f.map("credHelpers"));
  for (const auto& [key, name] : each) {
    if (!is_program_name(name)) return fail(Code::invalid_argument, std::string(what) + ": credHelpers." + key + " is no name of a helper");
    out.entries_.insert(out.entries_.begin(), Entry{registry_of_key(key), {}, name, key});
  }
  GANTRY_TRY(out.store_, f.text("credsStore"));
  if (!out.store_.empty() && !is_program_name(out.store_))
    return fail(Code::invalid_argument, std::string(what) + ": credsStore is no name of a helper");
  return out;
}

Result<std::optional<Account>> Credentials::find(const std::string& registry, const std::string& repository,
                                                 const Cancelled& cancelled) const {
  const std::string whole = registry + "/" + repository + "/";
  const Entry* best = nullptr;
  for (const Entry& e : entries_)
    if (whole.starts_with(e.at + "/") && (!best || e.at.size() > best->at.size())) best = &e;
  if (best && best->helper.empty()) return std::optional(best->account);
  const std::string& helper = best ? best->helper : store_;
  if (helper.empty()) return std::optional<Account>();
  const std::string server = best ? best->asked_as : registry == kDockerHub ? std::string(kHubKey) : registry;
  Result<Account> a = ask_helper(helper, server, cancelled);
  if (a) return std::optional(std::move(*a));
  if (!best && a.error().code == Code::failed_precondition) return std::optional<Account>();  // the store knows no account: anonymous
  return std::move(a).error();
}

}  // namespace gantry::image_oci
