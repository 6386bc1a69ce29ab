#include "prober.hpp"

#include <algorithm>

#include "ask.hpp"

namespace gantry::framework_services {
namespace {

std::string authority(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos && !host.starts_with('[');
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace

void Prober::sync(const std::string& instance) {
  if (stopped_) return;
  const Instance* i = core_.instance(instance);
  std::set<int> wanted;
  if (i && i->running()) {
    for (std::size_t k = 0; k < i->app->health.size(); ++k) {
      if (!i->app->health[k].by_agent) wanted.insert(static_cast<int>(k));
    }
    if (!i->app->readiness.empty() && !i->ready) wanted.insert(-1);
  }
  for (auto it = probes_.lower_bound({instance, -1}); it != probes_.end() && it->first.first == instance;) {
    if (wanted.count(it->first.second) && it->second.incarnation == i->incarnation) {
      wanted.erase(it->first.second);
      ++it;
    } else {
      it = probes_.erase(it);
    }
  }
  // One reading of the clock for both: run() tells stale entries by the difference.
  const Nanos now = host_.now();
  for (const int k : wanted) {
    probes_[{instance, k}] = {i->incarnation, now, false};
    due_.emplace(now, Key{instance, k});
  }
  if (!wanted.empty()) arm();
}

void Prober::arm() {
  if (stopped_ || due_.empty() || in_flight_ >= limit_) return;
  const Nanos next = due_.begin()->first;
  if (timer_ && armed_ <= next) return;
  if (timer_) host_.cancel_timer(timer_);
  armed_ = next;
  timer_ = host_.timer_at(next, [this] {
    timer_ = 0;
    run();
  });
}

void Prober::run() {
  const Nanos now = host_.now();
  while (!stopped_ && in_flight_ < limit_ && !due_.empty() && due_.begin()->first <= now) {
    const auto [at, key] = *due_.begin();
    due_.erase(due_.begin());
    const auto it = probes_.find(key);
    // An entry that no longer fits belongs to an earlier incarnation.
    if (it == probes_.end() || it->second.running || it->second.due != at) continue;
    start(key, it->second);
  }
  arm();
}

void Prober::start(const Key& key, Probe& p) {
  const Instance* i = core_.instance(key.first);
  if (!i) return;
  p.running = true;
  ++in_flight_;
  if (key.second < 0) {
    const ReadinessSpec& r = i->app->readiness.front();
    int port = 0;
    for (std::size_t k = 0; k < i->app->ports.size(); ++k) {
      if (i->app->ports[k].name == r.port_name) port = check_port(*i, std::nullopt, static_cast<int>(k));
    }
    fetch(key, p.incarnation, (r.https ? "https://" : "http://") + authority(i->host, port) + r.path, r.timeout, false);
    return;
  }
  const HealthCheckSpec& h = i->app->health[static_cast<std::size_t>(key.second)];
  const std::string where = authority(i->host, check_port(*i, h.port, h.port_index));
  if (h.kind == HealthCheckSpec::Kind::tcp)
    connect(key, p.incarnation, where, h.timeout);
  else
    fetch(key, p.incarnation, (h.https ? "https://" : "http://") + where + h.path, h.timeout, h.ignore_1xx);
}

void Prober::fetch(const Key& key, int incarnation, std::string url, double timeout, bool ignore_1xx) {
  const Nanos started = host_.now();
  fb::host::FetchT f;
  f.method = "GET";
  f.url = std::move(url);
  f.timeout_ns = static_cast<std::uint64_t>(timeout * 1e9);
  f.max_body = 64 << 10;
  f.verify = false;
  auto accept = std::make_unique<fb::host::HeaderT>();
  accept->name = "accept";
  accept->value = "*/*";
  f.headers.push_back(std::move(accept));
  ask(host_, fb::host::Service::HTTP, fb::host::HttpMethod::FETCH, f,
      [this, key, incarnation, started, ignore_1xx](Result<Buffer> reply) {
        if (!reply) return finish(key, incarnation, started, false, 0, reply.error().message);
        const auto* answer = view<fb::host::Fetched>(*reply);
        const int status = answer ? answer->status() : 0;
        std::string body;
        if (answer && answer->body())
          body.assign(reinterpret_cast<const char*>(answer->body()->data()), answer->body()->size());
        if (key.second < 0) {
          finish(key, incarnation, started, true, status, body);
        } else if (status < 200 && status >= 100 && ignore_1xx) {
          finish(key, incarnation, started, std::nullopt, status, {});
        } else {
          finish(key, incarnation, started, status >= 200 && status < 400, status, std::to_string(status));
        }
      });
}

void Prober::connect(const Key& key, int incarnation, std::string address, double timeout) {
  const Nanos started = host_.now();
  fb::host::ProbeT p;
  p.address = std::move(address);
  p.timeout_ns = static_cast<std::uint64_t>(timeout * 1e9);
  ask(host_, fb::host::Service::HTTP, fb::host::HttpMethod::PROBE, p,
      [this, key, incarnation, started](Result<Buffer> reply) {
        finish(key, incarnation, started, reply.has_value(), 0, reply ? std::string() : reply.error().message);
      });
}

void Prober::finish(const Key& key, int incarnation, Nanos started, std::optional<bool> passed, int status,
                    const std::string& text) {
  --in_flight_;
  if (stopped_) return;
  const auto it = probes_.find(key);
  const Instance* i = core_.instance(key.first);
  if (it != probes_.end() && it->second.incarnation == incarnation && i && i->incarnation == incarnation) {
    double interval = 0;
    if (key.second < 0) {
      interval = i->app->readiness.front().interval;
    } else {
      const HealthCheckSpec& h = i->app->health[static_cast<std::size_t>(key.second)];
      interval = h.interval;
      // While it is starting, failures do not count: ask more often, so that it serves as soon as it can.
      const bool starting = !i->health[static_cast<std::size_t>(key.second)].first_success && passed != true &&
                            static_cast<double>(core_.wall() - i->started_at) < h.grace * 1000;
      if (starting) interval = std::min(interval, 1.0);
    }
    it->second.running = false;
    it->second.due = std::max(started + seconds(interval), host_.now());
    due_.emplace(it->second.due, key);
    if (passed) verdict_(key.first, incarnation, key.second, *passed, status, text);
  }
  if (!due_.empty() && due_.begin()->first <= host_.now())
    run();
  else
    arm();
}

void Prober::stop() {
  stopped_ = true;
  if (timer_) host_.cancel_timer(timer_);
  timer_ = 0;
  probes_.clear();
  due_.clear();
}

}  // namespace gantry::framework_services
