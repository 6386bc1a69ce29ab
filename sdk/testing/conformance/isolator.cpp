// Conformance of kind `isolator`. Contract: sdk/docs/isolator.md.
#include "support.hpp"

#include <gantry/isolator_generated.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace gantry::conformance {
namespace {

namespace fi = fb::isolator;
using fi::Method;

std::vector<std::unique_ptr<fb::ResourceT>> resources(double cpus, double mem) {
  std::vector<std::unique_ptr<fb::ResourceT>> out;
  for (const auto& [name, value] : {std::pair{"cpus", cpus}, {"mem", mem}}) {
    auto r = std::make_unique<fb::ResourceT>();
    r->name = name;
    r->type = fb::ValueType::SCALAR;
    r->scalar = value;
    out.push_back(std::move(r));
  }
  return out;
}

// The agent's side of the conversation.
struct Agent {
  Subject& subject;
  Check& check;

  Agent(Subject& s, Check& c) : subject(s), check(c) {
    begin();
  }
  void begin(const std::vector<std::string>& living = {}) {
    check.require(check.ok(subject.up(), "configure and start"));
    recovered = {};
    auto r = subject.recover<fi::Recovered>(known(living));
    check.require(check.ok(r, "RECOVER"));
    recovered = r->orphans;
  }
  fi::RecoverT known(const std::vector<std::string>& ids) const {
    fi::RecoverT out;
    for (const auto& id : ids) {
      auto k = std::make_unique<fi::KnownT>();
      k->container_id = id;
      k->pid = ::getpid();
      k->sandbox = subject.scratch() + "/sandbox-" + id;
      k->task = std::make_unique<fb::TaskInfoT>();
      k->task->task_id = "task-" + id;
      k->task->resources = resources(0.1, 64);
      out.containers.push_back(std::move(k));
    }
    return out;
  }
  fi::PrepareT preparation(const std::string& id) const {
    fi::PrepareT p;
    p.container_id = id;
    p.framework_id = "conformance-0001";
    p.sandbox = subject.scratch() + "/sandbox-" + (id.find('/') == id.npos && id.size() < 100 ? id : "odd");
    std::error_code ec;
    std::filesystem::create_directories(p.sandbox, ec);
    p.task = std::make_unique<fb::TaskInfoT>();
    p.task->task_id = "task-" + id;
    p.task->name = "conformance";
    p.task->resources = resources(0.1, 64);
    p.task->command = std::make_unique<fb::CommandInfoT>();
    p.task->command->value = "sleep 1000";
    return p;
  }
  Outcome<fi::Prepared> prepare(const std::string& id) { return subject.call<fi::Prepared>(Method::PREPARE, preparation(id)); }
  // A PREPARE that must succeed.
  fi::PreparedT prepared(const std::string& id) {
    auto p = prepare(id);
    check.require(check.ok(p, "PREPARE of " + id));
    return std::move(*p);
  }
  Pending open_cleanup(const std::string& id) {
    fi::CleanupT c;
    c.container_id = id;
    return subject.open(Method::CLEANUP, c);
  }
  Status cleanup(const std::string& id) {
    const Pending p = open_cleanup(id);
    p.wait(30s);
    return p.result();
  }
  void cleaned(const std::string& id, const std::string& what = "CLEANUP") { check.ok(cleanup(id), what + " of " + id); }
  Pending watch(const std::string& id) {
    fi::WatchT w;
    w.container_id = id;
    return subject.open(Method::WATCH, w);
  }
  Outcome<fi::Usages> usage(std::vector<std::string> ids) {
    fi::UsageRequestT u;
    u.container_ids = std::move(ids);
    return subject.call<fi::Usages>(Method::USAGE, u);
  }
  Status update(const std::string& id, double cpus, double mem) {
    fi::UpdateT u;
    u.container_id = id;
    u.resources = resources(cpus, mem);
    return subject.call(Method::UPDATE, u);
  }
  // What the module keeps of a container where others can see it: the files it named, and what bears the id's name
  // below its work directory.
  std::set<std::string> traces(const std::string& id, const fi::PreparedT& p) const {
    std::set<std::string> out;
    for (const auto& f : p.enter_files)
      if (exists(f)) out.insert(f);
    if (!p.cgroup_kill.empty() && exists(p.cgroup_kill)) out.insert(p.cgroup_kill);
    for (const auto& path : tree(subject.work_dir()))
      if (path.find(id) != path.npos) out.insert(path);
    return out;
  }
  void no_traces(const std::string& id, const fi::PreparedT& p, const std::string& when) {
    check.equal(traces(id, p), std::set<std::string>{}, "left of container " + id + " " + when);
  }
  std::vector<std::string> recovered;  // orphans of the last RECOVER
};

std::vector<std::uint8_t> bytes(const fi::PreparedT& p) {
  const Buffer b = pack(p);
  return {b.data(), b.data() + b.size()};
}

bool contains(const std::vector<std::string>& v, const std::string& x) { return std::find(v.begin(), v.end(), x) != v.end(); }

}  // namespace

GANTRY_CONFORMANCE(isolator, prepare_and_cleanup, "a container is prepared and cleaned up, and nothing is left of it",
                   "answer PREPARE with a Prepared (an empty one will do), and remove in CLEANUP what PREPARE made") {
  Agent agent(subject, check);
  const auto p = agent.prepared("one");
  agent.cleaned("one");
  agent.no_traces("one", p, "after CLEANUP");
  check.ok(subject.down(), "STOP");
}

GANTRY_CONFORMANCE(isolator, prepared_is_sound, "what PREPARE answers can be carried out by the launcher",
                   "give absolute paths, files that exist, known namespace bits and usable variable names") {
  Agent agent(subject, check);
  const auto p = agent.prepared("sound");
  check.that((p.namespaces & ~0x7fu) == 0, "namespaces has unknown bits: " + std::to_string(p.namespaces));
  for (const auto& m : p.mounts) {
    check.that(!m->target.empty() && m->target[0] == '/', "mount target \"" + m->target + "\" is not absolute");
    check.that(m->target.find("/../") == std::string::npos, "mount target \"" + m->target + "\" has a \"..\"");
  }
  for (const auto& v : p.environment)
    check.that(!v->name.empty() && v->name.find('=') == std::string::npos, "environment variable \"" + v->name + "\" is no name");
  for (const auto& f : p.enter_files) {
    check.that(!f.empty() && f[0] == '/', "enter_files has \"" + f + "\", which is not absolute");
    check.that(exists(f), "enter_files has \"" + f + "\", which does not exist");
  }
  check.that(p.cgroup_kill.empty() || p.cgroup_kill[0] == '/', "cgroup_kill \"" + p.cgroup_kill + "\" is not absolute");
  agent.cleaned("sound");
}

GANTRY_CONFORMANCE(isolator, prepare_is_idempotent, "a second PREPARE of the same container gives the same answer",
                   "find what the first PREPARE made and answer the same; the agent repeats a call whose answer was lost") {
  Agent agent(subject, check);
  const auto first = agent.prepared("twice");
  const auto second = agent.prepare("twice");
  check.require(check.ok(second, "second PREPARE"));
  check.that(bytes(first) == bytes(*second), "the second PREPARE answered something else than the first");
  agent.cleaned("twice");
  agent.no_traces("twice", first, "after two PREPAREs and one CLEANUP");
}

GANTRY_CONFORMANCE(isolator, prepare_after_failure, "after a PREPARE that cannot work the next one does",
                   "leave nothing half done when PREPARE fails, and let CLEANUP remove the rest") {
  Agent agent(subject, check);
  auto odd = agent.preparation("odd");
  odd.task.reset();
  odd.sandbox = "/nonexistent/sandbox";
  odd.user = "nobody-has-this-account";
  const Pending p = subject.open(Method::PREPARE, odd);
  check.require(check.that(p.wait(), "PREPARE without task, sandbox and account has not completed"));
  if (p.code() != Code::ok) check.refused(p.result(), "PREPARE without task, sandbox and account");
  agent.cleaned("odd", "CLEANUP after that PREPARE");
  const auto good = agent.prepared("odd");
  agent.cleaned("odd");
  agent.no_traces("odd", good, "after CLEANUP");
}

GANTRY_CONFORMANCE(isolator, cleanup_of_unknown, "CLEANUP of a container this module never heard of succeeds",
                   "answer CLEANUP with OK when there is nothing to clean: it comes after crashes and failed launches, too") {
  Agent agent(subject, check);
  agent.cleaned("never-heard-of");
}

GANTRY_CONFORMANCE(isolator, cleanup_is_idempotent, "CLEANUP may come twice", "answer OK when the container has gone already") {
  Agent agent(subject, check);
  agent.prepared("again");
  agent.cleaned("again");
  agent.cleaned("again", "second CLEANUP");
  agent.prepared("again");
  agent.cleaned("again", "CLEANUP after a second life");
}

GANTRY_CONFORMANCE(isolator, cleanup_while_preparing, "CLEANUP may come while PREPARE is open",
                   "let CLEANUP wait for, or cancel, a PREPARE of the same container, and then remove what it made") {
  Agent agent(subject, check);
  const Pending preparing = subject.open(Method::PREPARE, agent.preparation("hasty"));
  const Pending cleaning = agent.open_cleanup("hasty");
  check.require(check.that(preparing.wait(10s), "PREPARE has not completed"));
  check.require(check.that(cleaning.wait(30s), "CLEANUP has not completed"));
  check.ok(cleaning.result(), "CLEANUP while PREPARE was open");
  agent.cleaned("hasty", "CLEANUP afterwards");
  if (const auto p = preparing.result<fi::Prepared>()) agent.no_traces("hasty", *p, "after CLEANUP");
}

GANTRY_CONFORMANCE(isolator, strange_ids, "ids that are no names do no harm",
                   "refuse \"\", \"..\", names with '/' and over-long ones before you make a path of them") {
  Agent agent(subject, check);
  // Where a module ends up that appends such an id to its work directory, or to a folder in it.
  write_file(subject.scratch() + "/victim/file", "still here");
  for (const std::string& id : {std::string(), std::string("."), std::string(".."), std::string("../victim"), std::string("../../victim"),
                                std::string("a/b"), std::string("/etc"), std::string(3000, 'x'), std::string("new\nline")}) {
    const std::string shown = id.size() > 20 ? std::to_string(id.size()) + " bytes" : "\"" + id + "\"";
    const Pending p = subject.open(Method::PREPARE, agent.preparation(id));
    check.require(check.that(p.wait(), "PREPARE of id " + shown + " has not completed"));
    check.that(p.wait() && agent.open_cleanup(id).wait(30s), "CLEANUP of id " + shown + " has not completed");
  }
  for (const std::string id : {"../escaped", "../../escaped"}) {
    check.require(subject.open(Method::PREPARE, agent.preparation(id)).wait());
    check.that(!exists(subject.scratch() + "/escaped"), "PREPARE of id \"" + id + "\" wrote outside the work directory");
    check.require(agent.open_cleanup(id).wait(30s));
  }
  check.equal(read_file(subject.scratch() + "/victim/file"), std::string("still here"),
              "a file outside the work directory, after CLEANUP of ids \"../victim\" and \"../../victim\"");
  agent.prepared("normal");
  agent.cleaned("normal");
}

GANTRY_CONFORMANCE(isolator, containers_are_independent, "cleaning one container up does not disturb another",
                   "keep what belongs to a container under its own id") {
  Agent agent(subject, check);
  const auto a = agent.prepared("left");
  const auto b = agent.prepared("right");
  const auto before = agent.traces("right", b);
  agent.cleaned("left");
  check.equal(agent.traces("right", b), before, "what there is of container right after CLEANUP of left");
  check.ok(agent.update("right", 0.2, 96), "UPDATE of the other container");
  const auto again = agent.prepare("right");
  if (check.ok(again, "PREPARE of the other container again"))
    check.that(bytes(*again) == bytes(b), "PREPARE of the other container answers differently now");
  agent.cleaned("right");
  agent.no_traces("left", a, "at the end");
  agent.no_traces("right", b, "at the end");
}

GANTRY_CONFORMANCE(isolator, many_containers, "forty containers may be prepared and cleaned up at once",
                   "let calls for different containers run side by side, and complete each") {
  Agent agent(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 40; ++i) open.push_back(subject.open(Method::PREPARE, agent.preparation("many-" + std::to_string(i))));
  for (const auto& p : open) {
    check.require(check.that(p.wait(20s), "one of 40 PREPAREs has not completed"));
    check.require(check.ok(p.result(), "one of 40 PREPAREs"));
  }
  std::vector<Pending> cleaning;
  for (int i = 0; i < 40; ++i) cleaning.push_back(agent.open_cleanup("many-" + std::to_string(i)));
  for (std::size_t i = 0; i < cleaning.size(); ++i) {
    check.require(check.that(cleaning[i].wait(30s), "one of 40 CLEANUPs has not completed"));
    check.ok(cleaning[i].result(), "one of 40 CLEANUPs");
    if (const auto p = open[i].result<fi::Prepared>()) agent.no_traces("many-" + std::to_string(i) + "/", *p, "after CLEANUP");
  }
}

GANTRY_CONFORMANCE(isolator, leaves_nothing, "twenty lives leave as much behind as one",
                   "remove files, descriptors and records of a container in CLEANUP") {
  Agent agent(subject, check);
  std::size_t after_first = 0;
  for (int i = 0; i < 20; ++i) {
    agent.prepared("life-" + std::to_string(i));
    agent.cleaned("life-" + std::to_string(i));
    if (i == 0) after_first = tree(subject.work_dir()).size();
  }
  check.that(tree(subject.work_dir()).size() <= after_first, "the work directory has " + std::to_string(tree(subject.work_dir()).size()) +
                                                                 " entries after 20 containers, " + std::to_string(after_first) + " after one");
}

GANTRY_CONFORMANCE(isolator, watch_ends_at_cleanup, "WATCH ends with OK no later than CLEANUP",
                   "keep the responder and complete it in CLEANUP, before CLEANUP's own answer; or complete it at once if you watch nothing") {
  Agent agent(subject, check);
  agent.prepared("watched");
  const Pending watch = agent.watch("watched");
  watch.wait(50ms);
  if (watch.done()) check.ok(watch.result(), "a WATCH that ended at once");
  agent.cleaned("watched");
  if (!check.that(watch.wait(1s), "WATCH is still open after CLEANUP was answered")) return;
  check.ok(watch.result(), "WATCH");
}

GANTRY_CONFORMANCE(isolator, watch_can_be_cancelled, "a cancelled WATCH ends", "complete the stream in cancel(), with CANCELLED or OK") {
  Agent agent(subject, check);
  agent.prepared("watched");
  const Pending watch = agent.watch("watched");
  watch.wait(20ms);
  watch.cancel();
  check.that(watch.wait(1s), "WATCH is still open 1 s after it was cancelled");
  agent.cleaned("watched");
}

GANTRY_CONFORMANCE(isolator, watch_of_unknown, "WATCH of an unknown container ends at once",
                   "complete with OK: there is nothing to tell, and nobody would ever end this stream") {
  Agent agent(subject, check);
  const Pending watch = agent.watch("never-heard-of");
  if (!check.that(watch.wait(1s), "WATCH of an unknown container is still open after 1 s")) return;
  check.that(watch.code() == Code::ok || watch.code() == Code::not_found, "WATCH ended with " + std::string(to_string(watch.code())));
}

GANTRY_CONFORMANCE(isolator, usage_of_unknown, "USAGE leaves out what it does not know and answers for the rest",
                   "answer OK without an entry; an error would fail the question for every other container in it") {
  Agent agent(subject, check);
  agent.prepared("counted");
  const auto alone = agent.usage({"never-heard-of"});
  if (check.ok(alone, "USAGE of an unknown container")) check.equal(alone->usages.size(), std::size_t{0}, "entries for an unknown container");
  const auto known = agent.usage({"counted"});
  const auto both = agent.usage({"never-heard-of", "counted"});
  check.require(check.ok(known, "USAGE of a known container"));
  if (check.ok(both, "USAGE of a known and an unknown container"))
    check.equal(both->usages.size(), known->usages.size(), "entries when an unknown container is asked for, too");
  for (const auto& u : known->usages) check.equal(u->container_id, std::string("counted"), "container in the answer");
  check.ok(agent.usage({}), "USAGE of nothing");
  agent.cleaned("counted");
}

GANTRY_CONFORMANCE(isolator, update_both_ways, "resources of a container may grow and shrink",
                   "apply new resources in UPDATE, or answer OK if they do not concern you") {
  Agent agent(subject, check);
  agent.prepared("elastic");
  check.ok(agent.update("elastic", 1, 256), "UPDATE to more");
  check.ok(agent.update("elastic", 0.1, 64), "UPDATE to less");
  check.ok(agent.update("elastic", 0.1, 64), "UPDATE to the same");
  agent.cleaned("elastic");
}

GANTRY_CONFORMANCE(isolator, update_of_unknown, "UPDATE of an unknown container is NOT_FOUND or OK, and makes nothing",
                   "answer NOT_FOUND if you keep something per container; never create it in UPDATE") {
  Agent agent(subject, check);
  const auto before = tree(subject.work_dir());
  const auto s = agent.update("never-heard-of", 1, 64);
  check.that(s || s.error().code == Code::not_found, "UPDATE of an unknown container: expected NOT_FOUND or OK, got " +
                                                         (s ? std::string("OK") : Check::describe(s.error())));
  check.equal(tree(subject.work_dir()), before, "files in the work directory after UPDATE of an unknown container");
}

GANTRY_CONFORMANCE(isolator, attach_to_the_dead, "ATTACH to a process that has ended fails cleanly, or needs nothing of it",
                   "expect the pid to be dead or somebody else's: use the pidfd, answer with an error, never signal by number") {
  Agent agent(subject, check);
  agent.prepared("dead");
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  check.needs(pid > 0, "no process can be made");
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  int status = 0;
  ::waitpid(pid, &status, 0);
  check.needs(pidfd >= 0, "this machine has no pidfd_open");
  fi::AttachT a;
  a.container_id = "dead";
  a.pid = pid;
  CallOptions options;
  options.fds = {pidfd};
  const Pending p = subject.open(Method::ATTACH, a, options);
  check.require(check.that(p.wait(), "ATTACH to a dead process has not completed"));
  if (p.code() != Code::ok) check.refused(p.result(), "ATTACH to a dead process");
  const Pending bare = subject.open(Method::ATTACH, a);
  check.that(bare.wait(), "ATTACH without a descriptor has not completed");
  ::close(pidfd);
  agent.cleaned("dead");
}

GANTRY_CONFORMANCE(isolator, a_real_process, "a process enters, is measured, ends, and nothing is left",
                   "kill and remove what is left of the container in CLEANUP, whatever state its processes are in") {
  check.needs(::geteuid() == 0, "needs root");
  Agent agent(subject, check);
  const auto p = agent.prepared("real");
  int go[2], entered[2];
  check.needs(::pipe2(go, O_CLOEXEC) == 0 && ::pipe2(entered, O_CLOEXEC) == 0, "no pipes");
  const pid_t pid = ::fork();
  if (pid == 0) {
    char byte = 0;
    if (::read(go[0], &byte, 1) != 1) ::_exit(1);
    for (const auto& file : p.enter_files) {
      const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
      if (fd < 0 || ::write(fd, "0", 1) != 1) byte = 'x';
      if (fd >= 0) ::close(fd);
    }
    if (::write(entered[1], &byte, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  check.needs(pid > 0, "no process can be made");
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  char byte = 'g';
  check.that(::write(go[1], &byte, 1) == 1 && ::read(entered[0], &byte, 1) == 1, "the process did not begin");
  check.that(byte == 'g', "the process cannot write itself into enter_files");
  if (!p.no_attach) {
    fi::AttachT a;
    a.container_id = "real";
    a.pid = pid;
    CallOptions options;
    options.fds = {pidfd};
    check.ok(subject.call(Method::ATTACH, a, options), "ATTACH");
  }
  const Pending watch = agent.watch("real");
  check.ok(agent.usage({"real"}), "USAGE");
  check.ok(agent.update("real", 0.2, 128), "UPDATE");
  ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  for (const int fd : {go[0], go[1], entered[0], entered[1], pidfd}) ::close(fd);
  agent.cleaned("real");
  check.that(watch.wait(1s), "WATCH is still open after CLEANUP");
  agent.no_traces("real", p, "after CLEANUP");
}

GANTRY_CONFORMANCE(isolator, recover_nothing, "RECOVER on a fresh machine finds no orphans",
                   "return only containers of this agent that you really find; an empty answer is fine") {
  Agent agent(subject, check);
  check.equal(agent.recovered, std::vector<std::string>{}, "orphans of a fresh agent");
  agent.prepared("after");
  agent.cleaned("after");
}

GANTRY_CONFORMANCE(isolator, recover_finds_orphans, "RECOVER returns what is left of containers the agent does not name",
                   "look at the outside world (directories, links, rules), not at memory: list what is yours and not in `containers`") {
  Agent agent(subject, check);
  const auto known = agent.prepared("living");
  const auto lost = agent.prepared("orphan");
  subject.kill();
  const bool left = !agent.traces("orphan", lost).empty();
  const auto of_living = agent.traces("living", known);
  agent.begin({"living"});
  check.that(!contains(agent.recovered, "living"), "the living container \"living\" is called an orphan");
  if (left)
    check.that(contains(agent.recovered, "orphan"), "files of container \"orphan\" exist, and RECOVER does not return it");
  for (const auto& id : agent.recovered)
    check.that(id == "orphan" || id == "living", "RECOVER returns \"" + id + "\", which was never prepared here");
  check.equal(agent.traces("living", known), of_living, "what there is of the living container after RECOVER");
  agent.cleaned("orphan", "CLEANUP of the orphan");
  agent.no_traces("orphan", lost, "after CLEANUP");
  agent.cleaned("living");
  agent.no_traces("living", known, "after CLEANUP");
}

GANTRY_CONFORMANCE(isolator, recover_keeps_the_living, "a container that RECOVER names goes on as before",
                   "take up every container in Recover: its WATCH, UPDATE, USAGE and CLEANUP follow without a PREPARE") {
  Agent agent(subject, check);
  const auto p = agent.prepared("living");
  const auto entries = agent.usage({"living"});
  check.require(check.ok(entries, "USAGE before the crash"));
  subject.kill();
  agent.begin({"living"});
  const Pending watch = agent.watch("living");
  watch.wait(20ms);
  if (watch.done()) check.ok(watch.result(), "WATCH");
  check.ok(agent.update("living", 0.2, 128), "UPDATE after RECOVER");
  const auto usage = agent.usage({"living"});
  if (check.ok(usage, "USAGE after RECOVER")) check.equal(usage->usages.size(), entries->usages.size(), "entries in USAGE, against before the crash");
  agent.cleaned("living");
  check.that(watch.wait(1s), "WATCH is still open after CLEANUP");
  agent.no_traces("living", p, "after CLEANUP");
}

GANTRY_CONFORMANCE(isolator, absent_fields, "absent fields mean empty and are no crash", "treat every absent string, list and table as empty") {
  Agent agent(subject, check);
  check.that(subject.open(Method::PREPARE, fi::PrepareT()).wait(), "PREPARE without anything has not completed");
  check.that(subject.open(Method::ATTACH, fi::AttachT()).wait(), "ATTACH without anything has not completed");
  check.that(subject.open(Method::WATCH, fi::WatchT()).wait(), "WATCH without anything has not completed");
  check.that(subject.open(Method::UPDATE, fi::UpdateT()).wait(), "UPDATE without anything has not completed");
  check.that(subject.open(Method::USAGE, fi::UsageRequestT()).wait(), "USAGE without anything has not completed");
  check.that(subject.open(Method::CLEANUP, fi::CleanupT()).wait(), "CLEANUP without anything has not completed");
  agent.prepared("normal");
  agent.cleaned("normal");
}

}  // namespace gantry::conformance
