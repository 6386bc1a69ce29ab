// Conformance of kind `fetcher`. Contract: sdk/docs/fetcher.md.
#include "fetcher_world.hpp"

#include <sys/stat.h>

namespace gantry::conformance {
namespace {

namespace ff = fb::fetcher;
namespace stdfs = std::filesystem;

struct Item {
  std::string value;
  std::string output = {};
  std::optional<bool> executable = {}, extract = {}, cache = {};
};

struct Fetching {
  Subject& subject;
  Check& check;
  std::string sandbox;
  WebServer web;

  Fetching(Subject& s, Check& c) : subject(s), check(c), sandbox(make_directory(s, "sandbox")) {
    check.needs(web.up(), "no listener on loopback can be opened");
    check.require(check.ok(subject.up(), "configure and start"));
  }
  ff::FetchT request(const std::vector<Item>& items, const std::string& directory) const {
    ff::FetchT f;
    f.container_id = "conformance";
    f.directory = directory;
    for (const auto& i : items) {
      auto u = std::make_unique<fb::UriT>();
      u->value = i.value;
      u->output_file = i.output;
      if (i.executable) u->executable = *i.executable;
      if (i.extract) u->extract = *i.extract;
      if (i.cache) u->cache = *i.cache;
      f.uris.push_back(std::move(u));
    }
    return f;
  }
  Pending open(const std::vector<Item>& items) { return subject.open(ff::Method::FETCH, request(items, sandbox)); }
  Status fetch(const std::vector<Item>& items) {
    const Pending p = open(items);
    p.wait(20s);
    return p.result();
  }
  void fetched(const std::vector<Item>& items, const std::string& what) { check.require(check.ok(fetch(items), "FETCH of " + what)); }
  void holds(const std::string& name, const std::string& data) {
    const std::string path = sandbox + "/" + name;
    if (!check.that(exists(path), name + " is not in the sandbox")) return;
    check.that(read_file(path) == data, name + " holds " + std::to_string(read_file(path).size()) + " other bytes than were fetched");
  }
  std::string local(const std::string& name, const std::string& data) const {
    const std::string path = subject.scratch() + "/source/" + name;
    write_file(path, data);
    ::chmod(path.c_str(), 0644);
    return path;
  }
  // Fails the case if something was made beside the sandbox.
  void nothing_outside() {
    for (const auto& path : tree(subject.scratch()))
      if (path.find("escaped") != path.npos && !path.starts_with("sandbox/") && !path.starts_with("source/"))
        check.fail("\"" + path + "\" was written outside the sandbox");
    check.that(!exists("/tmp/gantry-conformance-escaped"), "/tmp/gantry-conformance-escaped was written");
    ::unlink("/tmp/gantry-conformance-escaped");
  }
};

}  // namespace

GANTRY_CONFORMANCE(fetcher, nothing_to_do, "a FETCH without URIs is OK", "answer OK at once") {
  Fetching f(subject, check);
  check.ok(f.fetch({}), "FETCH without URIs");
}

GANTRY_CONFORMANCE(fetcher, file_uri, "a file: URI is copied", "serve file:///absolute/path") {
  Fetching f(subject, check);
  f.fetched({{"file://" + f.local("a.txt", "from a file")}}, "a file: URI");
  f.holds("a.txt", "from a file");
}

GANTRY_CONFORMANCE(fetcher, absolute_path, "an absolute path is copied", "treat a URI that begins with / as a local file") {
  Fetching f(subject, check);
  f.fetched({{f.local("b.bin", std::string("\0\xff\n", 3))}}, "an absolute path");
  f.holds("b.bin", std::string("\0\xff\n", 3));
}

GANTRY_CONFORMANCE(fetcher, http, "an http: URI is fetched under the last part of its path",
                   "serve http; the query is no part of the file's name") {
  Fetching f(subject, check);
  const std::string big(300'000, 'h');
  f.web.put("/dir/c.txt", "over http");
  f.web.put("/d.txt?version=2", "with a query");
  f.web.put("/big", big);
  f.fetched({{f.web.base() + "/dir/c.txt"}, {f.web.base() + "/d.txt?version=2"}, {f.web.base() + "/big"}}, "three http: URIs");
  f.holds("c.txt", "over http");
  f.holds("d.txt", "with a query");
  f.holds("big", big);
}

GANTRY_CONFORMANCE(fetcher, http_404, "what a server does not have is NOT_FOUND, with a sentence that names the URI",
                   "map 404 and 410 to NOT_FOUND; the message becomes the reason of the task's failure") {
  Fetching f(subject, check);
  const auto s = f.fetch({{f.web.base() + "/missing.tgz"}});
  if (check.code(s, Code::not_found, "FETCH of a URI that answers 404"))
    check.that(s.error().message.find("missing.tgz") != std::string::npos, "the message \"" + s.error().message + "\" does not name the URI");
  check.that(!exists(f.sandbox + "/missing.tgz"), "the error page lies in the sandbox under the artifact's name");
  check.refused(f.fetch({{f.web.base() + "/500"}}), "FETCH of a URI that answers 500");
}

GANTRY_CONFORMANCE(fetcher, missing_file, "a file that does not exist is NOT_FOUND", "say which file; make nothing in its place") {
  Fetching f(subject, check);
  const auto s = f.fetch({{subject.scratch() + "/source/no-such-file"}});
  if (check.code(s, Code::not_found, "FETCH of a missing file"))
    check.that(s.error().message.find("no-such-file") != std::string::npos, "the message \"" + s.error().message + "\" does not name the file");
}

GANTRY_CONFORMANCE(fetcher, refused_connection, "a server that is not there is an error, soon", "answer UNAVAILABLE with the reason") {
  Fetching f(subject, check);
  check.refused(f.fetch({{WebServer::closed_port() + "/x"}}), "FETCH from a port nobody listens on");
}

GANTRY_CONFORMANCE(fetcher, unknown_scheme, "a scheme this fetcher does not serve is INVALID_ARGUMENT", "name the scheme and those you serve") {
  Fetching f(subject, check);
  check.code(f.fetch({{"conformance-unheard-of://x/y"}}), Code::invalid_argument, "FETCH of an unknown scheme");
  for (const std::string& odd : {std::string(), std::string("relative/path"), std::string("http://"), std::string("://x"), std::string("file://otherhost/x"),
                                 std::string(100'000, 'u')})
    check.refused(f.fetch({{odd}}), "FETCH of a URI that is none (" + std::to_string(odd.size()) + " bytes)");
}

GANTRY_CONFORMANCE(fetcher, in_order, "URIs are brought in order: the later one wins a name", "do not bring two URIs of one FETCH in any other order") {
  Fetching f(subject, check);
  f.web.put("/1/same", "first");
  f.web.put("/2/same", "second");
  f.fetched({{f.web.base() + "/1/same"}, {f.web.base() + "/2/same"}}, "two URIs of the same name");
  f.holds("same", "second");
}

GANTRY_CONFORMANCE(fetcher, first_error_counts, "FETCH fails with the first error", "stop at the first URI that fails, and tell its reason") {
  Fetching f(subject, check);
  f.web.put("/good", "good");
  check.code(f.fetch({{f.web.base() + "/good"}, {f.web.base() + "/missing"}, {"conformance-unheard-of://x/y"}}), Code::not_found,
             "FETCH of a good, a missing and a senseless URI");
}

GANTRY_CONFORMANCE(fetcher, replaces, "a name that exists is replaced", "write aside and rename; do not append, and do not fail") {
  Fetching f(subject, check);
  f.web.put("/r", "first and long");
  f.fetched({{f.web.base() + "/r"}}, "a URI");
  f.web.put("/r", "second");
  f.fetched({{f.web.base() + "/r"}}, "the URI again");
  f.holds("r", "second");
}

GANTRY_CONFORMANCE(fetcher, output_file, "output_file names the result, below the sandbox", "make the directories it needs") {
  Fetching f(subject, check);
  f.web.put("/x", "renamed");
  f.fetched({{f.web.base() + "/x", "deep/er/name"}}, "a URI with output_file");
  f.holds("deep/er/name", "renamed");
}

GANTRY_CONFORMANCE(fetcher, output_file_leads_out, "output_file cannot lead out of the sandbox",
                   "refuse absolute paths and \"..\" in output_file with INVALID_ARGUMENT") {
  Fetching f(subject, check);
  f.web.put("/x", "escaped");
  for (const char* out : {"../escaped", "/tmp/gantry-conformance-escaped", "a/../../escaped", "..", "./../escaped-too"})
    check.refused(f.fetch({{f.web.base() + "/x", out}}), std::string("FETCH with output_file \"") + out + "\"");
  f.web.put("/..", "escaped");
  (void)f.fetch({{f.web.base() + "/.."}});
  f.nothing_outside();
}

GANTRY_CONFORMANCE(fetcher, link_in_sandbox, "a link that lies in the sandbox leads nowhere",
                   "open every component of the path with O_NOFOLLOW, below the sandbox's descriptor; the task owns what lies there") {
  Fetching f(subject, check);
  const std::string outside = make_directory(subject, "outside");
  write_file(outside + "/victim", "untouched");
  std::error_code ec;
  stdfs::create_directory_symlink(outside, f.sandbox + "/dir", ec);
  stdfs::create_symlink(outside + "/victim", f.sandbox + "/victim", ec);
  f.web.put("/victim", "overwritten");
  f.web.put("/new", "escaped");
  (void)f.fetch({{f.web.base() + "/victim"}});
  (void)f.fetch({{f.web.base() + "/new", "dir/escaped"}});
  check.equal(read_file(outside + "/victim"), std::string("untouched"), "a file outside that a link in the sandbox points to");
  f.nothing_outside();
}

GANTRY_CONFORMANCE(fetcher, executable, "executable sets the x bits and turns unpacking off", "chmod the result; otherwise leave it without x bits") {
  Fetching f(subject, check);
  const std::string script = "#!/bin/sh\nexit 0\n", tar = Tar().file("inner", "x").bytes();
  f.web.put("/run.sh", script);
  f.web.put("/self.tar", tar);
  f.web.put("/plain", "plain");
  f.fetched({{f.web.base() + "/run.sh", {}, true}, {f.web.base() + "/self.tar", {}, true}, {f.web.base() + "/plain"}}, "executables");
  const auto mode = [&](const char* name) {
    struct stat st {};
    return ::stat((f.sandbox + "/" + name).c_str(), &st) == 0 ? st.st_mode & 0777u : 0u;
  };
  check.that((mode("run.sh") & 0111u) == 0111u, "run.sh is not executable");
  check.that((mode("plain") & 0111u) == 0, "a file that nobody wanted executable is");
  f.holds("self.tar", tar);
  check.that(!exists(f.sandbox + "/inner"), "an executable was unpacked");
}

GANTRY_CONFORMANCE(fetcher, archive, "archives are unpacked, with their modes and directories", "unpack by the file's name: .tar, .tar.gz, .tgz, .zip, ...") {
  Fetching f(subject, check);
  f.web.put("/app.tar", Tar().directory("bin/").file("bin/tool", "#!/bin/sh\n", 0755).file("etc/deep/conf", "key=1").link("bin/alias", "tool").bytes());
  f.fetched({{f.web.base() + "/app.tar"}}, "a tar archive");
  f.holds("bin/tool", "#!/bin/sh\n");
  f.holds("etc/deep/conf", "key=1");
  f.holds("bin/alias", "#!/bin/sh\n");
  struct stat st {};
  check.that(::stat((f.sandbox + "/bin/tool").c_str(), &st) == 0 && (st.st_mode & 0111u) != 0, "bin/tool lost its x bits");
}

GANTRY_CONFORMANCE(fetcher, archive_leads_out, "names in an archive cannot lead out of the sandbox",
                   "strip or refuse absolute names and \"..\" in archives") {
  Fetching f(subject, check);
  f.web.put("/up.tar", Tar().file("../escaped", "x").bytes());
  f.web.put("/deep.tar", Tar().file("a/b/../../../escaped-deep", "x").bytes());
  f.web.put("/abs.tar", Tar().file("/tmp/gantry-conformance-escaped", "x").bytes());
  for (const char* name : {"/up.tar", "/deep.tar", "/abs.tar"}) (void)f.fetch({{f.web.base() + name}});
  f.nothing_outside();
}

GANTRY_CONFORMANCE(fetcher, archive_link_leads_out, "links in an archive are not written through",
                   "never follow a link while unpacking, whether it came from the archive or lay there; keep hard links inside") {
  Fetching f(subject, check);
  const std::string outside = make_directory(subject, "outside");
  write_file(outside + "/victim", "untouched");
  f.web.put("/link.tar", Tar().link("door", outside).file("door/escaped", "x").bytes());
  f.web.put("/file.tar", Tar().link("victim", outside + "/victim").file("victim", "overwritten").bytes());
  f.web.put("/hard.tar", Tar().hard_link("stolen", outside + "/victim").file("stolen", "overwritten").bytes());
  f.web.put("/up.tar", Tar().hard_link("stolen-too", "../outside/victim").file("stolen-too", "overwritten").bytes());
  for (const char* name : {"/link.tar", "/file.tar", "/hard.tar", "/up.tar"}) (void)f.fetch({{f.web.base() + name}});
  check.equal(read_file(outside + "/victim"), std::string("untouched"), "a file outside the sandbox, after archives with links to it");
  f.nothing_outside();
}

GANTRY_CONFORMANCE(fetcher, broken_archive, "a broken archive is an error and no crash", "answer with what is wrong with it") {
  Fetching f(subject, check);
  const std::string good = Tar().file("x", std::string(5000, 'x')).bytes();
  f.web.put("/cut.tar", good.substr(0, 1500));
  f.web.put("/noise.tgz", std::string(2000, '\x5a'));
  f.web.put("/noise.zip", "PK\x03\x04" + std::string(100, '\xff'));
  for (const char* name : {"/cut.tar", "/noise.tgz", "/noise.zip"}) check.refused(f.fetch({{f.web.base() + name}}), std::string("FETCH of broken ") + name);
}

GANTRY_CONFORMANCE(fetcher, not_extracted, "extract = false leaves an archive as it is", "an absent `extract` means true, a present one is the operator's word") {
  Fetching f(subject, check);
  const std::string tar = Tar().file("inner", "x").bytes();
  f.web.put("/whole.tar", tar);
  f.web.put("/plain.txt", "plain");
  f.fetched({{f.web.base() + "/whole.tar", {}, {}, false}, {f.web.base() + "/plain.txt", {}, {}, true}}, "an archive with extract = false");
  f.holds("whole.tar", tar);
  f.holds("plain.txt", "plain");
  check.that(!exists(f.sandbox + "/inner"), "the archive was unpacked");
}

GANTRY_CONFORMANCE(fetcher, cache, "cache = true gives the same result, whether or not there is a cache", "key the cache by user and URI; a broken cache means fetching without it") {
  Fetching f(subject, check);
  f.web.put("/cached", "cached");
  f.fetched({{f.web.base() + "/cached", "one", {}, {}, true}}, "a URI that may be cached");
  f.fetched({{f.web.base() + "/cached", "two", {}, {}, true}}, "the same URI again");
  f.holds("one", "cached");
  f.holds("two", "cached");
  check.notes.push_back(f.web.requests() == 1 ? "the second FETCH came from the cache" : "this fetcher did not cache");
  write_file(f.sandbox + "/one", "changed by the task");
  f.fetched({{f.web.base() + "/cached", "three", {}, {}, true}}, "the same URI after a task has changed its copy");
  f.holds("three", "cached");
}

GANTRY_CONFORMANCE(fetcher, unknown_user, "an account that does not exist is an error", "look the account up before you fetch, and name it") {
  Fetching f(subject, check);
  f.web.put("/x", "x");
  auto request = f.request({{f.web.base() + "/x"}}, f.sandbox);
  request.user = "nobody-has-this-account";
  check.refused(subject.call(ff::Method::FETCH, request), "FETCH for an account that does not exist");
}

GANTRY_CONFORMANCE(fetcher, belongs_to_the_user, "what is fetched belongs to the user", "chown files and the directories you make (needs root)") {
  check.needs(::geteuid() == 0, "needs root");
  Fetching f(subject, check);
  check.needs(subject.in_process(), "in a process of its own the module's account decides what it may give away");
  f.web.put("/x", "x");
  auto request = f.request({{f.web.base() + "/x", "made/x"}}, f.sandbox);
  request.user = "nobody";
  stdfs::permissions(f.sandbox, stdfs::perms::all);
  const auto s = subject.call(ff::Method::FETCH, request);
  check.require(check.ok(s, "FETCH for account nobody"));
  struct stat file {}, dir {};
  check.that(::stat((f.sandbox + "/made/x").c_str(), &file) == 0 && file.st_uid != 0, "the file belongs to root");
  check.that(::stat((f.sandbox + "/made").c_str(), &dir) == 0 && dir.st_uid != 0, "the directory it made belongs to root");
}

GANTRY_CONFORMANCE(fetcher, missing_directory, "a sandbox that does not exist is an error", "do not make it: its owner and place are the agent's business") {
  Fetching f(subject, check);
  f.web.put("/x", "x");
  const std::string nowhere = subject.scratch() + "/no/such/sandbox";
  check.refused(subject.call(ff::Method::FETCH, f.request({{f.web.base() + "/x"}}, nowhere)), "FETCH into a directory that does not exist");
  check.that(!exists(nowhere), "the sandbox was made");
  check.refused(subject.call(ff::Method::FETCH, f.request({{f.web.base() + "/x"}}, "")), "FETCH into no directory");
}

GANTRY_CONFORMANCE(fetcher, cancel, "a cancelled FETCH ends within a second", "watch for the cancel while you wait for the network, and complete the call") {
  Fetching f(subject, check);
  const Pending p = f.open({{f.web.base() + "/stall"}});
  subject.wait_until([&] { return f.web.requests() > 0 || p.done(); }, 5s);
  check.require(check.that(!p.done(), "FETCH of something that never comes has completed: " + std::string(to_string(p.code()))));
  p.cancel();
  check.require(check.that(p.wait(3s), "FETCH is still open 3 s after it was cancelled"));
  check.that(p.code() != Code::ok, "a cancelled FETCH answered OK");
  check.that(!exists(f.sandbox + "/stall"), "half an artifact lies under its final name");
  f.web.put("/next", "next");
  f.fetched({{f.web.base() + "/next"}}, "a URI after the cancelled one");
}

GANTRY_CONFORMANCE(fetcher, side_by_side, "one stalled transfer does not hold up twenty others", "give each FETCH its own place on the offload pool or one event loop for all") {
  Fetching f(subject, check);
  f.web.put("/quick", "quick");
  const Pending stalled = f.open({{f.web.base() + "/stall"}});
  std::vector<Pending> open;
  for (int i = 0; i < 20; ++i) open.push_back(f.open({{f.web.base() + "/quick", "quick-" + std::to_string(i)}}));
  for (const auto& p : open) {
    check.require(check.that(p.wait(10s), "one of 20 FETCHes waits for the stalled one"));
    check.ok(p.result(), "one of 20 FETCHes at once");
  }
  stalled.cancel();
  check.that(stalled.wait(3s), "the stalled FETCH is still open after it was cancelled");
}

GANTRY_CONFORMANCE(fetcher, stop_while_fetching, "STOP ends the transfers that run", "cancel them, complete their calls, then answer STOP") {
  Fetching f(subject, check);
  const Pending p = f.open({{f.web.base() + "/stall"}});
  subject.wait_until([&] { return f.web.requests() > 0 || p.done(); }, 5s);
  check.ok(subject.stop(), "STOP while a transfer stalls");
  check.that(p.wait(1s), "FETCH is still open after STOP was answered");
}

GANTRY_CONFORMANCE(fetcher, absent_fields, "absent fields mean empty and are no crash", "treat every absent string and list as empty") {
  Fetching f(subject, check);
  check.that(subject.open(ff::Method::FETCH, ff::FetchT()).wait(), "FETCH without anything has not completed");
  auto request = f.request({}, f.sandbox);
  request.uris.push_back(std::make_unique<fb::UriT>());
  check.refused(subject.call(ff::Method::FETCH, request), "FETCH of a URI without a value");
  f.web.put("/x", "x");
  f.fetched({{f.web.base() + "/x"}}, "a URI after that");
}

}  // namespace gantry::conformance
