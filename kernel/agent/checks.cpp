#include "kernel/agent/checks.hpp"

#include <sys/wait.h>

namespace gantry::agent {

void run_health_check(Launcher& launcher, const Probes& probes, const std::string& container_id,
                      const std::shared_ptr<const fb::TaskInfoT>& task, base::Nanos timeout,
                      Function<void(bool healthy, std::string message)> done) {
  const fb::HealthCheckT& check = *task->health_check;
  switch (check.type) {
    case fb::CheckType::TCP: {
      const auto port = static_cast<std::uint16_t>(check.tcp->port);
      probes.tcp(port, timeout, [done = std::move(done), port](Status s) mutable {
        if (s) return done(true, "");
        done(false, "TCP health check of port " + std::to_string(port) + " failed: " + s.error().message);
      });
      return;
    }
    case fb::CheckType::HTTP: {
      const auto& http = *check.http;
      std::string url = (http.scheme.empty() ? "http" : http.scheme) + "://127.0.0.1:" + std::to_string(http.port);
      if (!http.path.starts_with('/')) url += '/';
      url += http.path;
      probes.http(url, timeout, [done = std::move(done), url](Result<unsigned> r) mutable {
        if (!r) return done(false, "HTTP health check of " + url + " failed: " + r.error().message);
        const bool healthy = *r >= 200 && *r < 400;
        done(healthy, healthy ? "" : "HTTP health check of " + url + " answered " + std::to_string(*r));
      });
      return;
    }
    default: break;
  }
  launcher.run_in(container_id, *check.command, timeout, [done = std::move(done)](Result<int> r) mutable {
    if (!r) return done(false, "COMMAND health check failed: " + r.error().message);
    const int status = *r;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return done(true, "");
    done(false, WIFSIGNALED(status) ? "COMMAND health check was ended by signal " + std::to_string(WTERMSIG(status))
                                    : "COMMAND health check exited with status " + std::to_string(WEXITSTATUS(status)));
  });
}

}  // namespace gantry::agent
