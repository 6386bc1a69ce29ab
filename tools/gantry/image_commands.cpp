// gantry image list, pull, prune: the images on the agents.
#include "tools/gantry/format.hpp"
#include "tools/gantry/json_writer.hpp"
#include "tools/gantry/resources.hpp"
#include "tools/gantry/tasks.hpp"

#include <algorithm>
#include <functional>
#include <iostream>

namespace gantry::cli {

namespace control = fb::control;

namespace {

// Runs `fn` with each agent of the cluster, or with the daemon itself if it is an agent alone. One that cannot be reached or fails is
// told, and the others go on; the result is the first failure.
Status each_agent(Context& c, const std::function<Status(Daemon&, const std::string& hostname)>& fn) {
  GANTRY_TRY(auto daemon, Daemon::find(c));
  control::StatusT status;
  GANTRY_CHECK(daemon.ask_for<control::StatusT>(control::AskStatusT{}, [&](const control::StatusT& s) { status = s; }));
  if (!status.leading) return fn(daemon, status.hostname);
  GANTRY_TRY(const auto agents, agents_of(daemon));
  if (agents.empty()) return fail(Code::not_found, "no agent is registered");
  Status first = ok;
  for (const auto& a : agents) {
    auto agent = connect_to(c, a, true);
    Status done = agent ? fn(*agent, a.hostname) : Status(agent.error());
    if (done) continue;
    Error e = std::move(done).error();
    e.message = a.hostname + ": " + e.message;
    if (first) first = e;
    else *c.err << "gantry: " << printable(e.message) << "\n";
  }
  return first;
}

std::string short_id(const std::string& id) {
  const auto colon = id.find(':');
  return id.substr(colon == id.npos ? 0 : colon + 1, 12);
}

std::string megabytes(std::uint64_t n) { return mebibytes(static_cast<double>(n) / 1048576.0); }

}  // namespace

int image_list(Context& c) {
  Table t({"IMAGE", "ID", "SIZE", "LAYERS", "USED BY", "LAST USED", "HOST"});
  JsonWriter w;
  w.open('{').key("images").open('[');
  const Status s = each_agent(c, [&](Daemon& agent, const std::string& hostname) {
    return agent.ask_for<control::ImagesT>(control::AskImagesT{}, [&](const control::ImagesT& found) {
      for (const auto& i : found.images) {
        t.add({i->name, short_id(i->id), megabytes(i->size), std::to_string(i->layers.size()), i->containers.empty() ? "" : plural(i->containers.size(), "container"),
               i->used_ns ? age(wall_now() - static_cast<std::int64_t>(i->used_ns)) : "", hostname});
        w.open('{').field("name", i->name).field("id", i->id).field("digest", i->digest).field("size", i->size).field("layers", static_cast<std::uint64_t>(i->layers.size()));
        w.field("containers", static_cast<std::uint64_t>(i->containers.size())).field("os", i->os).field("architecture", i->architecture).field("hostname", hostname).close();
      }
    });
  });
  w.close().close();
  if (c.json) *c.out << w.text();
  else if (t.empty() && s) *c.out << "There is no image; one comes with the first container that needs it, or with gantry image pull.\n";
  else *c.out << t.text(c.terminal);
  return s ? int{exit_ok} : report(c, s.error());
}

int image_pull(Context& c, const std::string& name) {
  const Status s = each_agent(c, [&](Daemon& agent, const std::string& hostname) {
    control::PullImageT ask;
    ask.name = name;
    bool shown = false;
    control::QuestionT q;
    q.ask.Set(std::move(ask));
    return agent.ask(std::move(q), [&](const control::AnswerT& a) {
      if (const auto* p = a.say.AsPullProgress(); p && c.terminal && !c.json) {
        std::uint64_t done = 0, total = 0, ready = 0;
        for (const auto& l : p->layers) {
          done += l->done, total += l->total;
          ready += l->state == fb::image::LayerState::COMPLETE || l->state == fb::image::LayerState::SHARED;
        }
        *c.out << "\r\033[K" << printable(hostname) << ": " << ready << " of " << plural(p->layers.size(), "layer") << ", " << megabytes(done) << " of " << megabytes(total) << std::flush;
        shown = true;
      }
      if (const auto* images = a.say.AsImages(); images && !images->images.empty()) {
        const auto& i = *images->images[0];
        if (shown) *c.out << "\r\033[K";
        if (c.json) {
          JsonWriter w;
          w.open('{').field("hostname", hostname).field("name", i.name).field("id", i.id).field("digest", i.digest).field("size", i.size).close();
          *c.out << w.text();
        } else {
          *c.out << printable(hostname) << ": " << printable(i.name) << " " << short_id(i.id) << ", " << plural(i.layers.size(), "layer") << ", " << megabytes(i.size) << "\n";
        }
      }
    });
  });
  return s ? int{exit_ok} : report(c, s.error());
}

int image_prune(Context& c, const std::vector<std::string>& exclude) {
  std::uint64_t images = 0, bytes = 0;
  const Status s = each_agent(c, [&](Daemon& agent, const std::string& hostname) {
    control::PruneImagesT ask;
    ask.exclude = exclude;
    return agent.ask_for<control::PrunedT>(std::move(ask), [&](const control::PrunedT& p) {
      for (const auto& name : p.images)
        if (!c.json) *c.out << printable(hostname) << ": removed " << printable(name) << "\n";
      images += p.images.size();
      bytes += p.size;
    });
  });
  if (c.json) {
    JsonWriter w;
    w.open('{').field("images", images).field("size", bytes).close();
    *c.out << w.text();
  } else if (s) {
    *c.out << "Removed " << plural(images, "image") << ", " << megabytes(bytes) << ".\n";
  }
  return s ? int{exit_ok} : report(c, s.error());
}

}  // namespace gantry::cli
