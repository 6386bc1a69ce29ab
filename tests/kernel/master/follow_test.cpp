// Followers: whatever happens, snapshot and changes replayed are what a fresh snapshot says.
#include "life.hpp"

#include <gantry/state_generated.h>

namespace gantry::master {
namespace {

namespace st = fb::state;

std::string hex(Bytes b) { return std::string(reinterpret_cast<const char*>(b.data()), b.size()); }

// What a follower knows: rows as bytes under their keys.
struct Replay {
  std::map<std::string, std::string> rows;
  std::map<std::string, std::map<std::uint64_t, std::string>> history;  // of each framework
  std::map<std::uint64_t, std::string> over;                            // completed frameworks
  std::map<std::uint64_t, std::string> over_id;
  std::size_t limit_tasks = 0, limit_frameworks = 0;
  std::uint64_t version = 0;
  bool converged = false, whole = false;
  int deltas = 0, pieces = 0;

  static std::string task_row(S state, Bytes info, Bytes status, bool absent, std::uint64_t launched) {
    return hex(info) + "|" + hex(status) + "|" + std::to_string(static_cast<int>(state)) + (absent ? "|absent|" : "|") +
           std::to_string(launched);
  }
  struct Task {
    S state;
    std::string info, status;
    bool absent;
    std::uint64_t launched;
    bool operator==(const Task&) const = default;
  };
  std::map<std::string, Task> tasks;

  void trim() {
    for (auto& [f, list] : history)
      while (list.size() > limit_tasks) list.erase(list.begin());
    while (over.size() > limit_frameworks) {
      history.erase(over_id[over.begin()->first]);
      over_id.erase(over.begin()->first);
      over.erase(over.begin());
    }
    std::erase_if(history, [](const auto& h) { return h.second.empty(); });
  }
  static Bytes bytes(const flatbuffers::Vector<std::uint8_t>* v) { return v ? Bytes(v->data(), v->size()) : Bytes(); }

  void apply(Bytes b) {
    const auto* c = view<st::Chunk>(b);
    ASSERT_TRUE(c) << "malformed chunk";
    if (c->snapshot()) {
      ++pieces;
      EXPECT_EQ(c->from(), c->version());
      if (const auto* begin = c->begin()) {
        limit_tasks = begin->completed_tasks();
        limit_frameworks = begin->completed_frameworks();
        version = c->version();
      }
      EXPECT_EQ(version, c->version()) << "a gap";
      whole = !c->more();
    } else {
      ++deltas;
      EXPECT_EQ(version, c->from()) << "a gap";
      EXPECT_GT(c->version(), c->from());
      version = c->version();
    }
    converged = c->converged();
    for (const auto* x : *c->changes()) {
      if (const auto* a = x->agent()) {
        auto t = std::unique_ptr<st::AgentT>(a->UnPack());
        rows["agent " + std::string(text(a->info_nested_root()->id()))] = hex(pack(*t));
      } else if (const auto* f = x->framework()) {
        const std::string id(text(f->info_nested_root()->id()));
        auto t = std::unique_ptr<st::FrameworkT>(f->UnPack());
        if (f->completed()) {
          rows.erase("framework " + id);
          over[f->completed()] = hex(pack(*t));
          over_id[f->completed()] = id;
        } else {
          rows["framework " + id] = hex(pack(*t));
        }
      } else if (const auto* k = x->task()) {
        const std::string fid(text(k->framework_id())), id = fid + " " + std::string(text(k->info_nested_root()->task_id()));
        Task row{k->state(), hex(bytes(k->info())), hex(bytes(k->status())), k->absent(), k->launched_ns()};
        if (k->completed()) {
          if (!c->snapshot()) tasks.erase(id);  // a live one may have the id of an old one
          history[fid][k->completed()] = task_row(row.state, bytes(k->info()), bytes(k->status()), false, row.launched);
        } else {
          tasks[id] = row;
        }
      } else if (const auto* u = x->update()) {
        const auto it = tasks.find(std::string(text(u->framework_id())) + " " + std::string(text(u->task_id())));
        if (it == tasks.end()) continue;
        it->second.state = u->state();
        it->second.status = hex(bytes(u->status()));
      } else if (const auto* o = x->offer()) {
        auto t = std::unique_ptr<st::OfferT>(o->UnPack());
        rows["offer " + t->id] = hex(pack(*t));
      } else if (const auto* g = x->gone()) {
        if (g->executor_id()) {
          rows.erase("executor " + std::string(text(g->agent_id())) + " " + std::string(text(g->framework_id())) + " " +
                     std::string(text(g->executor_id())));
          continue;
        }
        if (g->task_id()) {
          tasks.erase(std::string(text(g->framework_id())) + " " + std::string(text(g->task_id())));
        } else if (g->framework_id()) {
          rows.erase("framework " + std::string(text(g->framework_id())));
          history.erase(std::string(text(g->framework_id())));
        }
        if (g->agent_id()) rows.erase("agent " + std::string(text(g->agent_id())));
        if (g->offer_id()) rows.erase("offer " + std::string(text(g->offer_id())));
        if (g->role()) rows.erase("role " + std::string(text(g->role())));
        if (g->operation_uuid()) rows.erase("operation " + hex(bytes(g->operation_uuid())));
        if (g->inverse_offer_id()) rows.erase("inverse offer " + std::string(text(g->inverse_offer_id())));
      } else if (const auto* role = x->role()) {
        auto t = std::unique_ptr<st::RoleT>(role->UnPack());
        rows["role " + t->name] = hex(pack(*t));
      } else if (x->operation() && x->operation()->operation()) {
        auto t = std::unique_ptr<st::OperationT>(x->operation()->UnPack());
        rows["operation " + hex(t->operation->uuid)] = hex(pack(*t));
      } else if (x->executor() && x->executor()->info()) {
        auto t = std::unique_ptr<st::ExecutorT>(x->executor()->UnPack());
        rows["executor " + t->agent_id + " " + t->framework_id + " " + t->info->executor_id] = hex(pack(*t));
      } else if (x->inverse_offer() && x->inverse_offer()->inverse_offer()) {
        auto t = std::unique_ptr<st::OpenInverseOfferT>(x->inverse_offer()->UnPack());
        rows["inverse offer " + t->inverse_offer->id] = hex(pack(*t));
      } else if (x->maintenance()) {
        auto t = std::unique_ptr<st::MaintenanceT>(x->maintenance()->UnPack());
        rows["maintenance"] = hex(pack(*t));
      } else {
        ADD_FAILURE() << "an empty change";
      }
    }
    trim();
  }
};

struct Follower {
  Replay seen;
  Core::SnapshotCursor cursor;
  bool begun = false;
  // One piece, as the master sends it: the changes first.
  void piece(Core& core, std::size_t bytes) {
    if (cursor.stage == Core::kSnapshotStages) return;
    st::BeginT begin;
    begin.completed_frameworks = static_cast<std::uint32_t>(core.options().completed_frameworks);
    begin.completed_tasks = static_cast<std::uint32_t>(core.options().completed_tasks);
    seen.apply(core.snapshot(cursor, bytes, begun ? nullptr : &begin));
    begun = true;
  }
};

Replay fresh(Core& core) {
  Follower f;
  while (f.cursor.stage < Core::kSnapshotStages) f.piece(core, 1 << 20);
  return std::move(f.seen);
}

TEST(Follow, SnapshotAndChangesReplayedAreWhatAFreshSnapshotSays) {
  int deltas = 0, completed = 0, over = 0;
  for (unsigned seed = 1; seed <= 60 && !testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life life(seed);
    life.c.options.completed_frameworks = 3;
    life.c.restart();
    Core* core = life.c.core.get();
    core->follow(true);
    int runs = life.runs;
    std::vector<Follower> followers(1);
    std::mt19937 random(seed * 7919);
    for (int i = 0; i < 250 && !testing::Test::HasFatalFailure(); ++i) {
      life.step();
      if (life.runs != runs) {  // the master failed over: everybody follows anew
        runs = life.runs;
        core = life.c.core.get();
        core->follow(true);
        followers.assign(1, {});
      }
      if (random() % 3 == 0) continue;  // several steps make one delta
      for (const Buffer& b : core->take_changes())
        for (auto& f : followers)
          if (f.begun) f.seen.apply(b);
      if (random() % 40 == 0) followers.emplace_back();
      for (auto& f : followers)
        if (random() % 2) f.piece(*core, 600);
      for (auto& f : followers) {
        if (!f.seen.whole) continue;
        const Replay now = fresh(*core);
        ASSERT_EQ(f.seen.rows, now.rows) << "step " << i;
        ASSERT_EQ(f.seen.tasks, now.tasks) << "step " << i;
        ASSERT_EQ(f.seen.history, now.history) << "step " << i;
        ASSERT_EQ(f.seen.over, now.over) << "step " << i;
        ASSERT_EQ(f.seen.version, now.version);
        ASSERT_EQ(f.seen.converged, now.converged);
        deltas += f.seen.deltas;
        completed += static_cast<int>(now.history.size());
        over += static_cast<int>(now.over.size());
      }
    }
  }
  EXPECT_GT(deltas, 10000) << "nothing much happened";
  EXPECT_GT(completed, 100);
  EXPECT_GT(over, 100);
}

TEST(Follow, NothingIsNotedWhileNobodyFollows) {
  Cluster c;
  const auto r = c.run_one();
  EXPECT_FALSE(c.core->changes_waiting());
  EXPECT_TRUE(c.core->take_changes().empty());
  c.core->follow(true);
  EXPECT_TRUE(c.core->take_changes().empty());
  c.update(1, r.framework, "t", S::TASK_FINISHED, 2);
  EXPECT_TRUE(c.core->changes_waiting());
  c.core->follow(false);
  EXPECT_FALSE(c.core->changes_waiting());
}

TEST(Follow, EveryStatusComesInOrder) {
  Cluster c;
  const auto r = c.run_one();
  c.core->follow(true);
  c.update(1, r.framework, "t", S::TASK_KILLING, 2);
  c.update(1, r.framework, "t", S::TASK_KILLED, 3);
  std::vector<S> states;
  std::vector<std::uint64_t> versions;
  for (const auto& b : c.core->take_changes()) {
    const auto* chunk = view<st::Chunk>(b);
    ASSERT_TRUE(chunk);
    for (const auto* x : *chunk->changes())
      if (x->update()) states.push_back(x->update()->status_nested_root()->state());
  }
  EXPECT_EQ(states, (std::vector<S>{S::TASK_KILLING, S::TASK_KILLED}));
}

TEST(Follow, ConvergedOnceAllKnownAgentsAreBackOrGivenUp) {
  Cluster c;
  const std::string id = c.join(1);
  c.restart();
  c.core->follow(true);
  EXPECT_FALSE(fresh(*c.core).converged);
  c.join(2, c.with_tasks(id, {}));
  const auto changes = c.core->take_changes();
  ASSERT_FALSE(changes.empty());
  EXPECT_TRUE(view<st::Chunk>(changes.back())->converged());
}

TEST(Follow, APieceOfASnapshotIsBounded) {
  Cluster c;
  for (LinkId l = 1; l <= 200; ++l) c.join(l);
  Follower f;
  int pieces = 0;
  while (f.cursor.stage < Core::kSnapshotStages) {
    f.piece(*c.core, 4096);
    ++pieces;
  }
  EXPECT_GT(pieces, 10);
  EXPECT_EQ(f.seen.rows.size(), 200u);
}

TEST(Follow, AStepThatChangesMuchIsToldInPieces) {
  Cluster c;
  const auto stream = c.subscribe(Cluster::info());
  const std::string framework = c.id_of(stream), agent = c.join(1, "cpus:2000;mem:2000000");
  c.alive.insert(1);
  const auto o = c.offers(stream);
  ASSERT_EQ(o.size(), 1u);
  std::vector<fb::TaskInfoT> tasks;
  for (int i = 0; i < 1500; ++i) {
    tasks.push_back(Cluster::task("t" + std::to_string(i), agent));
    tasks.back().name = std::string(1000, 'n');
  }
  ASSERT_TRUE(c.call(Cluster::accept(framework, {o[0].id}, std::move(tasks))));
  ASSERT_EQ(c.core->task_count(), 1500u);
  c.core->follow(true);
  fb::CallT teardown;
  teardown.type = fb::CallType::TEARDOWN;
  teardown.framework_id = framework;
  ASSERT_TRUE(c.call(std::move(teardown)));
  const auto changes = c.core->take_changes();
  EXPECT_GT(changes.size(), 5u);
  std::uint64_t version = view<st::Chunk>(changes.at(0))->from();
  std::size_t completed = 0;
  for (const auto& b : changes) {
    EXPECT_LT(b.size(), (256u << 10) + 4096);
    const auto* chunk = view<st::Chunk>(b);
    ASSERT_TRUE(chunk);
    EXPECT_EQ(chunk->from(), version) << "no gap";
    version = chunk->version();
    for (const auto* x : *chunk->changes()) completed += x->task() && x->task()->completed();
  }
  EXPECT_EQ(completed, 1500u);
}

}  // namespace
}  // namespace gantry::master
