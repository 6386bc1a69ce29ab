#include "kernel/agent/checks.hpp"

#include "kernel/agent/core.hpp"

#include <sys/wait.h>

namespace gantry::agent {

namespace {

// What looking once has shown: an exit code, an HTTP status, or whether a port took the connection. Nothing: there was no answer
// in time, or nobody could be asked.
struct Seen {
  std::optional<int> value;
  std::string problem;
};

void try_port(const Probes& probes, std::uint32_t port, base::Nanos timeout, Function<void(Seen)> done) {
  probes.tcp(static_cast<std::uint16_t>(port), timeout, [done = std::move(done)](Status s) mutable {
    if (s) return done({1, ""});
    done({s.error().code == Code::deadline_exceeded ? std::optional<int>() : 0, s.error().message});
  });
}

std::string url_of(const fb::HttpCheckT& http) {
  std::string url = (http.scheme.empty() ? "http" : http.scheme) + "://127.0.0.1:" + std::to_string(http.port);
  if (!http.path.starts_with('/')) url += '/';
  return url + http.path;
}

void get_url(const Probes& probes, const std::string& url, base::Nanos timeout, Function<void(Seen)> done) {
  probes.http(url, timeout, [done = std::move(done)](Result<unsigned> r) mutable {
    if (r) done({static_cast<int>(*r), ""});
    else done({std::nullopt, r.error().message});
  });
}

void run_command(Launcher& launcher, const std::string& container_id, const fb::CommandInfoT& command, base::Nanos timeout,
                 Function<void(Seen)> done) {
  launcher.run_in(container_id, command, timeout, [done = std::move(done)](Result<int> r) mutable {
    if (!r) return done({std::nullopt, r.error().message});
    if (WIFEXITED(*r)) return done({WEXITSTATUS(*r), "exited with status " + std::to_string(WEXITSTATUS(*r))});
    done({128 + WTERMSIG(*r), "was ended by signal " + std::to_string(WTERMSIG(*r))});  // as a shell tells it
  });
}

}  // namespace

void run_health_check(Launcher& launcher, const Probes& probes, const std::string& container_id,
                      const std::shared_ptr<const fb::TaskInfoT>& task, base::Nanos timeout,
                      Function<void(bool healthy, std::string message)> done) {
  const fb::HealthCheckT& check = *task->health_check;
  switch (check.type) {
    case fb::CheckType::TCP:
      return try_port(probes, check.tcp->port, timeout, [done = std::move(done), port = check.tcp->port](Seen seen) mutable {
        const bool healthy = seen.value == 1;
        done(healthy, healthy ? "" : "TCP health check of port " + std::to_string(port) + " failed: " + seen.problem);
      });
    case fb::CheckType::HTTP: {
      const std::string url = url_of(*check.http);
      return get_url(probes, url, timeout, [done = std::move(done), url](Seen seen) mutable {
        if (!seen.value) return done(false, "HTTP health check of " + url + " failed: " + seen.problem);
        const bool healthy = *seen.value >= 200 && *seen.value < 400;
        done(healthy, healthy ? "" : "HTTP health check of " + url + " answered " + std::to_string(*seen.value));
      });
    }
    default:
      return run_command(launcher, container_id, *check.command, timeout, [done = std::move(done)](Seen seen) mutable {
        if (!seen.value) return done(false, "COMMAND health check failed: " + seen.problem);
        done(*seen.value == 0, *seen.value == 0 ? "" : "COMMAND health check " + seen.problem);
      });
  }
}

void run_check(Launcher& launcher, const Probes& probes, const std::string& container_id, const std::shared_ptr<const fb::TaskInfoT>& task,
               base::Nanos timeout, Function<void(fb::CheckStatusInfoT)> done) {
  const fb::CheckInfoT& check = *task->check;
  auto tell = [done = std::move(done), type = check.type](Seen seen) mutable {
    auto status = no_result(type);
    if (seen.value) {
      if (status.command) status.command->exit_code = *seen.value;
      if (status.http) status.http->status_code = static_cast<std::uint32_t>(*seen.value);
      if (status.tcp) status.tcp->succeeded = *seen.value == 1;
    }
    done(std::move(status));
  };
  switch (check.type) {
    case fb::CheckType::TCP: return try_port(probes, check.tcp->port, timeout, std::move(tell));
    case fb::CheckType::HTTP: return get_url(probes, url_of(*check.http), timeout, std::move(tell));
    default: return run_command(launcher, container_id, *check.command->command, timeout, std::move(tell));
  }
}

}  // namespace gantry::agent
