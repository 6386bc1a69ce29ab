#include "oci.hpp"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

namespace gantry::image_oci {
namespace {

namespace fi = fb::image;

// An upper bound for texts of calls; names have limits of their own.
constexpr std::size_t kMaxContainerId = 1024;

Status check_container(std::string_view id) {
  if (id.empty() || id.size() > kMaxContainerId || id.find('\0') != std::string_view::npos || id.find('/') != std::string_view::npos ||
      id == "." || id == "..")
    return fail(Code::invalid_argument, "container_id \"" + std::string(id.substr(0, 100)) + "\" is no name of a container");
  return ok;
}

Status check_type(fb::ImageType type) {
  if (type == fb::ImageType::DOCKER) return ok;
  return fail(Code::unimplemented, "images of type " + std::string(fb::EnumNameImageType(type)) +
                                       " are not supported; use type DOCKER, which serves OCI images, too");
}

fi::ImageT message_of(const ImageRecord& r, const Store& store) {
  fi::ImageT m;
  m.id = r.id;
  m.name = r.name;
  m.digest = r.digest;
  for (const std::string& key : r.layers) {
    m.layers.push_back(store.path(key));
    m.size += store.size(key);
  }
  m.os = r.config.platform.os;
  m.architecture = r.config.platform.architecture;
  m.used_ns = r.used_ns;
  m.containers = store.users(r);
  m.config = std::make_unique<fi::ConfigT>();
  m.config->entrypoint = r.config.entrypoint;
  m.config->cmd = r.config.cmd;
  m.config->env = r.config.env;
  m.config->working_dir = r.config.working_dir;
  m.config->user = r.config.user;
  m.config->ports = r.config.ports;
  m.config->volumes = r.config.volumes;
  m.config->stop_signal = r.config.stop_signal;
  for (const auto& [key, value] : r.config.labels) {
    auto label = std::make_unique<fb::LabelT>();
    label->key = key;
    label->value = value;
    m.config->labels.push_back(std::move(label));
  }
  return m;
}

Buffer message_of(const std::vector<LayerProgress>& layers) {
  fi::ProgressT p;
  for (const LayerProgress& l : layers) {
    auto one = std::make_unique<fi::LayerT>();
    one->digest = l.digest;
    one->done = l.done;
    one->total = l.total;
    one->state = static_cast<fi::LayerState>(l.state);
    p.layers.push_back(std::move(one));
  }
  return pack(p);
}

double free_part(const std::string& directory) {
  struct statvfs s {};
  if (::statvfs(directory.c_str(), &s) != 0 || s.f_blocks == 0) return 1;
  return static_cast<double>(s.f_bavail) / static_cast<double>(s.f_blocks);
}

}  // namespace

OciImages::~OciImages() {
  stopping_->store(true);
  for (std::thread& t : threads_)
    if (t.joinable()) t.join();
}

template <class F>
Task<std::invoke_result_t<F&>> OciImages::on_thread(F work) {
  using R = std::invoke_result_t<F&>;
  Promise<R> promise;
  const auto at = threads_.emplace(threads_.end());
  *at = std::thread([this, at, promise, work = std::move(work)]() mutable {
    const auto guarded = [&]() -> R {
      try {
        return work();
      } catch (const std::exception& e) {
        return fail(Code::internal, e.what());
      }
    };
    auto result = std::make_shared<R>(guarded());
    host().post([this, at, promise, result] {
      at->join();
      threads_.erase(at);
      promise.set(std::move(*result));
    });
  });
  co_return co_await promise.get();
}

Result<PullOptions> OciImages::options_from(const Settings& settings) const {
  PullOptions o;
  o.archives = settings.text("archives");
  o.local = settings.list("local");
  const std::string& registry = settings.text("default_registry");
  if (is_local(registry)) {
    GANTRY_TRY(const LocalName local, parse_local(registry));
    o.archives = local.path;
  } else {
    o.default_registry = registry;
    if (const auto r = parse_reference("x", registry); !r || !parse_reference(registry + "/x/y"))
      return fail(Code::invalid_argument, "default_registry \"" + registry + "\" is neither a host, host:port nor a directory",
                  "default_registry");
  }
  for (const std::string& item : settings.list("mirrors")) {
    const std::size_t equal = item.find('=');
    std::vector<std::string> urls;
    for (std::size_t at = equal + 1; equal != std::string::npos && at < item.size();) {
      const std::size_t end = std::min(item.find_first_of(" ,", at), item.size());
      if (end > at) urls.push_back(item.substr(at, end - at));
      at = end + 1;
    }
    for (const std::string& url : urls)
      if (url.find("://") != std::string::npos && !url.starts_with("https://") && !url.starts_with("http://"))
        return fail(Code::invalid_argument, "mirror \"" + url + "\" is no http or https URL", "mirrors");
    if (urls.empty()) return fail(Code::invalid_argument, "mirrors: \"" + item + "\" names no mirror", "mirrors");
    o.registry.mirrors[registry_of_key(item.substr(0, equal))] = std::move(urls);
  }
  o.registry.insecure = settings.list("insecure");
  o.registry.http.certificates = settings.text("certificates");
  o.registry.http.connect = settings.duration("connect_timeout");
  o.registry.http.stall = settings.duration("stall_timeout");
  o.registry.attempts = static_cast<unsigned>(settings.number("retries"));
  o.credentials = settings.text("credentials");
  if (const std::string& platform = settings.text("platform"); !platform.empty()) {
    auto p = Platform::parse(platform);
    if (!p) {
      p.error().key_path = "platform";
      return std::move(p).error();
    }
    o.platform = std::move(*p);
  }
  o.parallel = static_cast<unsigned>(settings.number("parallel_downloads"));
  o.limits.max_size = static_cast<std::uint64_t>(settings.number("max_layer_size"));
  o.limits.max_entries = static_cast<std::uint64_t>(settings.number("max_layer_entries"));
  return o;
}

Result<std::set<std::string>> OciImages::names_in_full(const std::vector<std::string>& names) const {
  std::set<std::string> out;
  for (const std::string& each : names) {
    GANTRY_TRY(std::string name, full_name(each, options_.default_registry));
    out.insert(std::move(name));
  }
  return out;
}

Task<Status> OciImages::configure(Settings settings) {
  GANTRY_CO_TRY(PullOptions options, options_from(settings));
  std::swap(options_, options);
  auto keep = names_in_full(settings.list("gc_keep"));
  if (!keep) {
    std::swap(options_, options);
    keep.error().key_path = "gc_keep";
    co_return std::move(keep).error();
  }
  collecting_ = {settings.real("gc_headroom"), settings.duration("gc_interval"), std::move(*keep)};
  if (settings.reload()) {
    traffic_->set_parallel(options_.parallel);
    if (timer_) {
      host().cancel_timer(timer_);
      collect_later();
    }
    co_return ok;
  }
  traffic_ = std::make_shared<Traffic>(options_.parallel);
  directory_ = settings.work_dir();
  pulled_ = host().metric("images/pulled", fb::MetricKind::COUNTER, "", "pulls that ended well, those of images that were here included");
  failed_ = host().metric("images/failed", fb::MetricKind::COUNTER, "", "pulls that failed or were cancelled");
  received_ = host().metric("images/received", fb::MetricKind::COUNTER, "bytes", "of layers, as they came");
  removed_ = host().metric("images/removed", fb::MetricKind::COUNTER, "bytes", "of layers that were collected or pruned");
  auto problems = std::make_shared<std::vector<std::string>>();
  auto opening = host().offload([directory = directory_, problems] { return Store::open(directory, *problems); });
  auto store = co_await std::move(opening);
  if (!store) co_return std::move(store).error();
  store_ = std::move(*store);
  for (const std::string& each : *problems) host().warning(each);
  if (::geteuid() != 0) degraded_ = "not run by root: owners, devices and marks of removed directories of images are lost";
  co_return ok;
}

Task<Status> OciImages::start() {
  collect_later();
  co_return ok;
}

Task<Result<fb::HealthT>> OciImages::health() {
  fb::HealthT h;
  if (!degraded_.empty()) h.state = fb::HealthState::DEGRADED, h.message = degraded_;
  co_return h;
}

void OciImages::cancelled(std::uint64_t token) {
  if (const auto it = running_.find(token); it != running_.end()) it->second->store(true);
}

Task<Status> OciImages::stop() {
  stopping_->store(true);
  if (timer_) host().cancel_timer(timer_);
  timer_ = 0;
  drained_.emplace();
  for (const auto& [token, flag] : running_) flag->store(true);
  if (!running_.empty() || collecting_now_) co_await drained_->get();
  co_return ok;
}

void OciImages::pull(Request<fi::Pull> request, Responder responder) {
  PullRequest p;
  p.container = text(request->container_id());
  p.name = text(request->name());
  switch (request->policy()) {
    case fi::Policy::ALWAYS:
      p.policy = Policy::always;
      break;
    case fi::Policy::NEVER:
      p.policy = Policy::never;
      break;
    default:
      break;
  }
  if (const auto* c = request->credential(); c && !text(c->principal()).empty()) {
    p.account.emplace();
    p.account->user = text(c->principal());
    p.account->secret = text(c->secret());
  }
  p.config = text(request->config());
  Status s = check_container(p.container);
  if (s) s = check_type(request->type());
  if (s && (drained_ || !store_)) s = fail(Code::unavailable, "the module is stopping");
  if (s && pulls_.count(p.container)) s = fail(Code::already_exists, "an image is being pulled for container " + p.container + " already");
  if (!s) return responder.fail(s.error());
  spawn(pulling(std::move(p), std::make_shared<Responder>(std::move(responder))));
}

Task<void> OciImages::pulling(PullRequest request, std::shared_ptr<Responder> responder) {
  const std::uint64_t token = responder->token();
  const std::string container = request.container;
  auto flag = running_[token] = std::make_shared<std::atomic<bool>>(false);
  pulls_[container].cancel = flag;
  struct Found {
    std::uint64_t received = 0;
    bool short_of_room = false;
  };
  auto found = std::make_shared<Found>();
  auto work = [request = std::move(request), options = options_, store = store_, traffic = traffic_, responder, flag, found,
               directory = directory_, headroom = collecting_.headroom, now = host().wall_ns()]() -> Result<fi::ImageT> {
    const OnProgress tell = [&](const std::vector<LayerProgress>& layers) {
      found->received = 0;
      for (const LayerProgress& l : layers)
        if (l.state != LayerProgress::State::shared) found->received += l.done;
      responder->more(Bytes(message_of(layers)));
    };
    const Cancelled cancelled = [&] { return flag->load(std::memory_order_relaxed); };
    GANTRY_TRY(const ImageRecord record, image_oci::pull(request, options, store, *traffic, tell, cancelled, now));
    // Its container went away while it came.
    if (cancelled()) {
      GANTRY_CHECK(store->release(request.container, now));
      return cancelled_error();
    }
    found->short_of_room = free_part(directory) < headroom;
    return message_of(record, *store);
  };
  auto running = on_thread(std::move(work));
  const Result<fi::ImageT> image = co_await std::move(running);
  running_.erase(token);
  const auto waiting = std::move(pulls_[container].over);
  pulls_.erase(container);
  for (const auto& each : waiting) each.set(true);
  (image ? pulled_ : failed_).add();
  received_.add(static_cast<double>(found->received));
  if (image)
    responder->complete(Bytes(pack(*image)));
  else
    responder->fail(image.error());
  if (found->short_of_room && !collecting_now_) spawn(collect());
  if (drained_ && running_.empty() && !collecting_now_) drained_->set(true);
}

Task<Status> OciImages::release(Request<fi::Release> request) {
  const std::string container(text(request->container_id()));
  GANTRY_CO_CHECK(check_container(container));
  // In the middle of its pull: that ends first, so that it cannot come to use the image afterwards.
  if (const auto it = pulls_.find(container); it != pulls_.end()) {
    it->second.cancel->store(true);
    const Promise<bool> over = it->second.over.emplace_back();
    co_await over.get();
  }
  auto work = host().offload([store = store_, container, now = host().wall_ns()] { return store->release(container, now); });
  co_return co_await std::move(work);
}

Task<Result<fi::ImageT>> OciImages::inspect(Request<fi::Inspect> request) {
  GANTRY_CO_CHECK(check_type(request->type()));
  GANTRY_CO_TRY(const std::string name, full_name(std::string(text(request->name())), options_.default_registry));
  auto work = host().offload([store = store_, name]() -> Result<fi::ImageT> {
    const auto image = store->image(name);
    if (!image) return fail(Code::not_found, "image " + name + " is not on this agent");
    return message_of(*image, *store);
  });
  co_return co_await std::move(work);
}

Task<Result<fi::ImagesT>> OciImages::list(Request<fi::List>) {
  auto work = host().offload([store = store_]() -> Result<fi::ImagesT> {
    fi::ImagesT out;
    for (const ImageRecord& each : store->images()) out.images.push_back(std::make_unique<fi::ImageT>(message_of(each, *store)));
    out.size = store->total();
    return out;
  });
  co_return co_await std::move(work);
}

Task<Result<fi::PrunedT>> OciImages::prune(Request<fi::Prune> request) {
  std::vector<std::string> names;
  if (const auto* exclude = request->exclude())
    for (const auto* each : *exclude) names.emplace_back(text(each));
  GANTRY_CO_TRY(std::set<std::string> keep, names_in_full(names));
  keep.insert(collecting_.keep.begin(), collecting_.keep.end());
  auto work = host().offload([store = store_, keep = std::move(keep), stopping = stopping_]() -> Result<Removed> {
    return store->remove([&](const std::string& name) { return keep.count(name) != 0; }, [] { return false; },
                         [&] { return stopping->load(); });
  });
  GANTRY_CO_TRY(const Removed removed, co_await std::move(work));
  removed_.add(static_cast<double>(removed.size));
  fi::PrunedT out;
  out.images = removed.images;
  out.size = removed.size;
  co_return out;
}

Task<Result<fi::RecoveredT>> OciImages::recover(Request<fi::Recover> request) {
  std::set<std::string> alive;
  if (const auto* containers = request->containers())
    for (const auto* each : *containers) alive.emplace(text(each));
  auto work = host().offload([store = store_, alive = std::move(alive)]() -> Result<fi::RecoveredT> {
    fi::RecoveredT out;
    for (std::string& container : store->containers())
      if (!alive.count(container)) out.orphans.push_back(std::move(container));
    return out;
  });
  co_return co_await std::move(work);
}

void OciImages::collect_later() {
  timer_ = host().timer(collecting_.interval, [this] {
    timer_ = 0;
    collect_later();
    if (!collecting_now_) spawn(collect());
  });
}

Task<void> OciImages::collect() {
  if (collecting_.headroom <= 0 || drained_) co_return;
  collecting_now_ = true;
  auto work = host().offload([store = store_, directory = directory_, c = collecting_, stopping = stopping_]() -> Result<Removed> {
    if (free_part(directory) >= c.headroom) return Removed{};
    return store->remove([&](const std::string& name) { return c.keep.count(name) != 0; },
                         [&] { return free_part(directory) >= c.headroom; }, [&] { return stopping->load(); });
  });
  const Result<Removed> removed = co_await std::move(work);
  collecting_now_ = false;
  if (removed && removed->size > 0) {
    removed_.add(static_cast<double>(removed->size));
    host().info("collected images that no container uses",
                {{"images", std::to_string(removed->images.size())}, {"bytes", std::to_string(removed->size)}});
  }
  if (drained_ && running_.empty()) drained_->set(true);
}

}  // namespace gantry::image_oci
