// Binaries of released ABIs, loaded and used by this kernel. They were built once (golden/build) and never again: what
// fails here fails for every vendor's module of that age.
#include "tests/compat/module_rig.hpp"

#include <gantry/allocator_generated.h>
#include <gantry/authenticator_generated.h>
#include <gantry/election_generated.h>
#include <gantry/fetcher_generated.h>
#include <gantry/framework_generated.h>
#include <gantry/isolator_generated.h>
#include <gantry/store_generated.h>

#include <gmock/gmock.h>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace gantry::compat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Every .so of every release, oldest release first.
std::vector<std::string> golden() {
  std::vector<std::string> out;
  for (const auto& e : std::filesystem::recursive_directory_iterator(GOLDEN_DIR))
    if (e.path().extension() == ".so") out.push_back(e.path());
  std::sort(out.begin(), out.end());
  return out;
}

std::string readable(const std::string& file) {
  std::string s = std::filesystem::path(file).parent_path().filename().string() + "_" + std::filesystem::path(file).stem().string();
  for (char& c : s)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return s;
}

std::string refused(const Result<Buffer>& r) { return r.has_value() ? "answered" : std::string(to_string(r.error().code)); }

// Every kind: what is common to all of them.
void common(Rig& rig) {
  EXPECT_EQ(refused(rig.ask_raw(4000, Buffer())), "UNIMPLEMENTED");
  const auto health = rig.ask_raw(GANTRY_METHOD_HEALTH, Buffer());
  EXPECT_TRUE(health.has_value() && view<fb::Health>(*health)) << refused(health);
}

void garbage(Rig& rig, std::uint32_t method) {
  EXPECT_EQ(refused(rig.ask_raw(method, Buffer(as_bytes("this is no message at all")))), "INVALID_ARGUMENT");
}

// ---- store

void use_store(Rig& rig) {
  using M = fb::store::Method;
  const auto op = [](fb::store::OpType type, const std::string& key, std::optional<std::uint64_t> expected = {}) {
    auto o = std::make_unique<fb::store::OpT>();
    o->type = type;
    o->key = key;
    if (type == fb::store::OpType::PUT) o->value = {1, 2, 3};
    if (expected) o->expected = *expected;
    return o;
  };
  const auto list = [&](const std::string& prefix) {
    fb::store::ListT l;
    l.prefix = prefix;
    const auto s = rig.open(static_cast<std::uint32_t>(M::LIST), pack(l));
    EXPECT_TRUE(rig.run_until([&] { return s->code != GANTRY_MORE; }));
    std::vector<std::string> keys;
    for (const auto& chunk : s->chunks)
      if (const auto r = unpack<fb::store::Records>(chunk); r.has_value())
        for (const auto& record : r->records) keys.push_back(record->key);
    return keys;
  };
  const auto before = list("").size();
  fb::store::CommitT commit;
  commit.ops.push_back(op(fb::store::OpType::PUT, "golden/one", 0));
  commit.ops.push_back(op(fb::store::OpType::PUT, "golden/two"));
  auto committed = rig.ask(M::COMMIT, commit);
  ASSERT_TRUE(committed.has_value()) << committed.error().message;
  const auto versions = unpack<fb::store::Committed>(*committed);
  ASSERT_TRUE(versions.has_value() && versions->versions.size() == 2);
  EXPECT_EQ(refused(rig.ask(M::COMMIT, commit)), "ABORTED") << "the version is another by now";
  fb::store::GetT get;
  get.key = "golden/one";
  const auto got = rig.ask(M::GET, get);
  ASSERT_TRUE(got.has_value()) << got.error().message;
  const auto record = unpack<fb::store::Record>(*got);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->version, versions->versions[0]);
  EXPECT_THAT(record->value, ElementsAre(1, 2, 3));
  EXPECT_THAT(list("golden/"), ElementsAre("golden/one", "golden/two"));
  commit.ops.clear();
  commit.ops.push_back(op(fb::store::OpType::DELETE, "golden/one"));
  commit.ops.push_back(op(fb::store::OpType::DELETE, "golden/two"));
  EXPECT_TRUE(rig.ask(M::COMMIT, commit).has_value());
  EXPECT_EQ(refused(rig.ask(M::GET, get)), "NOT_FOUND");
  EXPECT_EQ(list("").size(), before);
  garbage(rig, static_cast<std::uint32_t>(M::GET));
}

// ---- election

void use_election(Rig& rig) {
  const auto leader = [](const std::vector<std::uint8_t>& chunk) {
    const auto* l = view<fb::election::Leader>(chunk);
    return l ? std::string(text(l->address())) : "malformed";
  };
  const auto watch = rig.open(static_cast<std::uint32_t>(fb::election::Method::WATCH), Buffer());
  ASSERT_TRUE(rig.run_until([&] { return watch->chunks.size() == 1; }));
  EXPECT_EQ(leader(watch->chunks[0]), "");
  fb::election::CandidateT me;
  me.address = "127.0.0.1:5050";
  me.id = "m1";
  const auto contend = rig.open(static_cast<std::uint32_t>(fb::election::Method::CONTEND), pack(me));
  ASSERT_TRUE(rig.run_until([&] { return contend->chunks.size() == 1 && watch->chunks.size() == 2; }));
  const auto* elected = view<fb::election::Leadership>(contend->chunks[0]);
  ASSERT_TRUE(elected);
  EXPECT_TRUE(elected->elected());
  EXPECT_EQ(leader(watch->chunks[1]), "127.0.0.1:5050");
  rig.instance->cancel(contend->id);
  ASSERT_TRUE(rig.run_until([&] { return contend->code != GANTRY_MORE && watch->chunks.size() == 3; }));
  EXPECT_EQ(contend->code, GANTRY_CANCELLED);
  EXPECT_EQ(leader(watch->chunks[2]), "");
  rig.instance->cancel(watch->id);
  EXPECT_TRUE(rig.run_until([&] { return watch->code == GANTRY_CANCELLED; }));
  garbage(rig, static_cast<std::uint32_t>(fb::election::Method::CONTEND));
}

// ---- fetcher

void use_fetcher(Rig& rig) {
  const std::string sandbox = rig.dir.path + "/sandbox";
  std::filesystem::create_directory(sandbox);
  ::chmod(sandbox.c_str(), 0777);
  const auto fetch = [&](std::vector<std::string> addresses) {
    fb::fetcher::FetchT f;
    f.container_id = "c1";
    f.directory = sandbox;
    for (auto& a : addresses) {
      f.uris.push_back(std::make_unique<fb::UriT>());
      f.uris.back()->value = a;
    }
    return rig.ask(fb::fetcher::Method::FETCH, f);
  };
  EXPECT_TRUE(fetch({}).has_value());
  EXPECT_TRUE(fetch({"file:/a", "file:/b"}).has_value());
  std::ifstream in(sandbox + "/fetched");
  std::stringstream content;
  content << in.rdbuf();
  EXPECT_EQ(content.str(), "file:/a\nfile:/b\n");
  EXPECT_EQ(refused(fetch({"missing:"})), "NOT_FOUND");
  const auto thrown = fetch({"throw:"});
  EXPECT_EQ(refused(thrown), "INTERNAL") << "an exception stays on its side of the line";
  if (!thrown.has_value()) {
    EXPECT_THAT(thrown.error().message, HasSubstr("as it was told"));
  }
  garbage(rig, static_cast<std::uint32_t>(fb::fetcher::Method::FETCH));
}

// ---- framework

// The master, as far as a framework sees it.
class Cluster final : public module::Service {
 public:
  void request(const module::ServiceRequest& r, module::ServiceReply reply) override {
    const auto call = unpack<fb::Call>(r.body);
    if (!call.has_value()) return reply(GANTRY_INVALID_ARGUMENT, {});
    calls.push_back(fb::EnumNameCallType(call->type));
    if (r.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) {
      role = call->subscribe->framework_info->roles.at(0);
      events = std::move(reply);
      fb::EventT e;
      e.type = fb::EventType::SUBSCRIBED;
      e.subscribed = std::make_unique<fb::SubscribedT>();
      e.subscribed->framework_id = "f1";
      say(e);
      offer("o1");
      return;
    }
    EXPECT_EQ(call->framework_id, "f1");
    if (call->accept) {
      const auto& task = *call->accept->operations.at(0)->launch->task_infos.at(0);
      launched = task.task_id + " on " + task.agent_id + " with " + std::to_string(task.resources.size());
      fb::EventT e;
      e.type = fb::EventType::UPDATE;
      e.update = std::make_unique<fb::UpdateT>();
      e.update->status = std::make_unique<fb::TaskStatusT>();
      e.update->status->task_id = task.task_id;
      e.update->status->agent_id = task.agent_id;
      e.update->status->state = fb::TaskState::TASK_RUNNING;
      e.update->status->uuid.assign(16, 7);
      say(e);
      offer("o2");
    }
    if (call->acknowledge) acknowledged = call->acknowledge->task_id;
    if (call->decline) declined = call->decline->offer_ids.at(0);
    reply(GANTRY_OK, {});
  }
  void cancelled(std::uint64_t) override {
    if (events) std::exchange(events, nullptr)(GANTRY_CANCELLED, {});
  }
  void say(const fb::EventT& e) const {
    const Buffer b = pack(e);
    events(GANTRY_MORE, b);
  }
  void offer(const std::string& id) const {
    fb::EventT e;
    e.type = fb::EventType::OFFERS;
    e.offers = std::make_unique<fb::OffersT>();
    auto o = std::make_unique<fb::OfferT>();
    o->id = id;
    o->agent_id = "a1";
    o->resources.push_back(std::make_unique<fb::ResourceT>());
    o->resources.back()->name = "cpus";
    e.offers->offers.push_back(std::move(o));
    say(e);
  }
  module::ServiceReply events;
  std::vector<std::string> calls;
  std::string role, launched, acknowledged, declined;
};

void use_framework(Rig& rig, Cluster& cluster) {
  ASSERT_TRUE(rig.run_until([&] { return !cluster.declined.empty() && !cluster.acknowledged.empty(); }));
  EXPECT_EQ(cluster.role, "golden");
  EXPECT_EQ(cluster.launched, "golden-1 on a1 with 1");
  EXPECT_EQ(cluster.acknowledged, "golden-1");
  EXPECT_EQ(cluster.declined, "o2");
  const auto health = rig.ask_raw(GANTRY_METHOD_HEALTH, Buffer());
  ASSERT_TRUE(health.has_value());
  EXPECT_EQ(text(view<fb::Health>(*health)->message()), "golden-1 TASK_RUNNING");
}

// ---- isolator

void use_isolator(Rig& rig) {
  using M = fb::isolator::Method;
  fb::isolator::PrepareT prepare;
  prepare.container_id = "c1";
  prepare.sandbox = rig.dir.path;
  prepare.task = std::make_unique<fb::TaskInfoT>();
  prepare.task->task_id = "t1";
  for (int i = 0; i < 2; ++i) {
    const auto prepared = rig.ask(M::PREPARE, prepare);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().message;
    EXPECT_TRUE(view<fb::isolator::Prepared>(*prepared));
  }
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  fb::isolator::AttachT attach;
  attach.container_id = "c1";
  attach.pid = child;
  const auto attached = rig.ask(M::ATTACH, attach, pidfd >= 0 ? std::vector<int>{pidfd} : std::vector<int>{});
  EXPECT_TRUE(attached.has_value()) << attached.error().message;
  rlimit now{};
  EXPECT_EQ(::prlimit(child, RLIMIT_NOFILE, nullptr, &now), 0);
  EXPECT_EQ(now.rlim_cur, 64u);
  fb::isolator::UsageRequestT usage;
  usage.container_ids = {"c1"};
  const auto used = rig.ask(M::USAGE, usage);
  EXPECT_TRUE(used.has_value() ? view<fb::isolator::Usages>(*used) != nullptr : used.error().code == Code::unimplemented);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (pidfd >= 0) ::close(pidfd);
  fb::isolator::CleanupT cleanup;
  cleanup.container_id = "c1";
  EXPECT_TRUE(rig.ask(M::CLEANUP, cleanup).has_value());
  EXPECT_TRUE(rig.ask(M::CLEANUP, cleanup).has_value()) << "of a container it no longer knows";
  garbage(rig, static_cast<std::uint32_t>(M::PREPARE));
}

Task<Status> recover(module::Instance& i) {
  fb::isolator::RecoverT r;
  r.containers.push_back(std::make_unique<fb::isolator::KnownT>());
  r.containers.back()->container_id = "old";
  Buffer body = pack(r);
  Result<Buffer> reply = co_await i.ask(GANTRY_METHOD_RECOVER, std::move(body));
  if (!reply.has_value() && reply.error().code != Code::unimplemented) co_return reply.error();
  co_return ok;
}

// ---- authenticator

void use_authenticator(Rig& rig) {
  using M = fb::authenticator::Method;
  const auto authenticate = [&](const std::string& scheme, const std::string& parameters) {
    fb::authenticator::CredentialsT c;
    c.scheme = scheme;
    c.parameters = parameters;
    return rig.ask(M::AUTHENTICATE, c);
  };
  const auto ann = authenticate("basic", "YW5uOnNlY3JldA==");  // ann:secret
  ASSERT_TRUE(ann.has_value()) << ann.error().message;
  const auto identity = unpack<fb::authenticator::Identity>(*ann);
  ASSERT_TRUE(identity.has_value());
  EXPECT_EQ(identity->principal, "ann");
  EXPECT_EQ(refused(authenticate("basic", "YW5uOmd1ZXNz")), "UNAUTHENTICATED");  // ann:guess
  EXPECT_EQ(refused(authenticate("basic", "%%%")), "UNAUTHENTICATED");
  EXPECT_EQ(refused(authenticate("negotiate", "abc")), "UNIMPLEMENTED") << "the kernel then asks the next one";
  fb::authenticator::ChallengeT challenge;
  challenge.realm = "here";
  const auto challenged = rig.ask(M::CHALLENGE, challenge);
  ASSERT_TRUE(challenged.has_value()) << challenged.error().message;
  EXPECT_THAT(std::string(text(view<fb::authenticator::Challenge>(*challenged)->value())), HasSubstr("here"));
  garbage(rig, static_cast<std::uint32_t>(M::AUTHENTICATE));
}

// ---- allocator

void use_allocator(Rig& rig) {
  using namespace fb::allocator;
  DeltasT d;
  d.now_ns = 1'000'000'000;
  d.reset = true;
  const auto name = [](std::uint32_t id, const std::string& s) {
    auto n = std::make_unique<NameT>();
    n->id = id;
    n->text = s;
    return n;
  };
  d.names.push_back(name(1, "cpus"));
  d.names.push_back(name(2, "mem"));
  d.roles.push_back(std::make_unique<RoleT>());
  d.roles.back()->id = 1;
  d.roles.back()->text = "web";
  d.frameworks.push_back(std::make_unique<FrameworkDeltaT>());
  d.frameworks.back()->id = 5;
  d.frameworks.back()->roles = {1};
  d.frameworks.back()->active = true;
  d.agents.push_back(std::make_unique<AgentDeltaT>());
  d.agents.back()->id = 9;
  d.agents.back()->total = {Quantity(1, 0, 0, 0, 4000), Quantity(2, 0, 0, 0, 4096000)};
  d.agents.back()->available = d.agents.back()->total;
  d.agents.back()->active = true;
  d.all = true;
  const auto answer = rig.ask(Method::ALLOCATE, d);
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  const auto* round = view<Round>(*answer);
  ASSERT_TRUE(round && round->grants());
  ASSERT_EQ(round->grants()->size(), 1u);
  EXPECT_EQ(round->grants()->Get(0)->agent(), 9u);
  EXPECT_EQ(round->grants()->Get(0)->framework(), 5u);
  EXPECT_EQ(round->grants()->Get(0)->role(), 1u);
  DeltasT nothing;
  nothing.now_ns = 2'000'000'000;
  const auto again = rig.ask(Method::ALLOCATE, nothing);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  const auto* second = view<Round>(*again);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->grants() ? second->grants()->size() : 0, 0u) << "what it granted is not there to be granted again";
  garbage(rig, static_cast<std::uint32_t>(Method::ALLOCATE));
}

// ---- all of them

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void run(const std::string& host) {
#if !defined(__x86_64__)
    GTEST_SKIP() << "the golden modules are for x86-64";
#endif
    const auto manifest = config::read_manifest(GetParam());
    ASSERT_TRUE(manifest.has_value()) << manifest.error().message;
    const std::string kind = manifest->kind;
    Cluster cluster;
    Rig rig;
    rig.services[fb::host::Service::CLUSTER] = &cluster;
    std::vector<Given> given;
    module::ModuleHost::BeforeStart before;
    if (kind == "isolator") {
      given = {{"limit", "", 64}};
      before = recover;
    }
    if (kind == "authenticator") {
      const std::string file = rig.dir.path + "/htpasswd";
      std::ofstream(file) << "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";
      given = {{"file", file}};
    }
    ASSERT_EQ(rig.start(GetParam(), host, std::move(given), before), "started");
    common(rig);
    if (kind == "store") use_store(rig);
    else if (kind == "election") use_election(rig);
    else if (kind == "fetcher") use_fetcher(rig);
    else if (kind == "framework") use_framework(rig, cluster);
    else if (kind == "isolator") use_isolator(rig);
    else if (kind == "authenticator") use_authenticator(rig);
    else if (kind == "allocator") use_allocator(rig);
    else FAIL() << "no calls are known for kind " << kind << "; add them here";
    EXPECT_TRUE(rig.stop()) << "it did not stop cleanly, or made a fault";
  }
};

TEST_P(Golden, ServesInTheKernel) { run("kernel"); }
TEST_P(Golden, ServesInAProcessOfItsOwn) { run("process"); }

INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(golden()), [](const auto& p) { return readable(p.param); });

// The README of a release names each file with its digest: none was exchanged, none is missing.
TEST(GoldenFiles, AreThoseThatWereReleased) {
  std::set<std::string> listed;
  for (const auto& release : std::filesystem::directory_iterator(GOLDEN_DIR)) {
    if (!std::filesystem::exists(release.path() / "README.md") || release.path().filename() == "source") continue;
    std::ifstream in(release.path() / "README.md");
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with("| `")) continue;
      const std::string file = release.path() / line.substr(3, line.find('`', 3) - 3);
      std::string digest;
      std::istringstream cells(line);
      for (std::string cell; std::getline(cells, cell, '|');)
        if (cell.size() == 66) digest = cell.substr(1, 64);
      listed.insert(file);
      TempDir dir;  // the checkout itself may be writable by its group
      const std::string copy = dir.path + "/m.so";
      std::error_code ec;
      std::filesystem::copy_file(file, copy, ec);
      ASSERT_FALSE(ec) << file << ": " << ec.message();
      ::chmod(copy.c_str(), 0755);
      const Status same = module::check_file(copy, digest);
      EXPECT_TRUE(same.has_value()) << file << ": " << (same.has_value() ? "" : same.error().message);
    }
  }
  const auto files = golden();
  EXPECT_EQ(listed, (std::set<std::string>(files.begin(), files.end())));
  EXPECT_FALSE(listed.empty());
}

TEST(GoldenFiles, CoverEveryKindAndEveryToolchain) {
  std::set<std::string> kinds, toolchains;
  for (const auto& file : golden()) {
    const auto m = config::read_manifest(file);
    ASSERT_TRUE(m.has_value()) << m.error().message;
    kinds.insert(m->kind);
    const std::string stem = std::filesystem::path(file).stem();
    toolchains.insert(stem.substr(stem.rfind('-') + 1));
    const auto info = config::inspect_library_file(file);
    ASSERT_TRUE(info.has_value()) << info.error().message;
    EXPECT_THAT(info->symbols, ElementsAre("gantry_module_v1")) << file;
  }
  // Kinds that came later have none before the next release.
  for (const auto& k : module::kinds) {
    if (!std::filesystem::exists(std::string(RELEASED_SCHEMAS) + "/" + std::string(k.name) + ".fbs")) continue;
    EXPECT_EQ(kinds.count(std::string(k.name)), 1u) << "no golden module of kind " << k.name;
  }
  EXPECT_EQ(toolchains, (std::set<std::string>{"gcc", "libcxx", "rustc"}));
}

}  // namespace
}  // namespace gantry::compat
