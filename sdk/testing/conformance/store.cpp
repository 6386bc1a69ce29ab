// Conformance of kind `store`. Contract: sdk/docs/store.md.
#include "support.hpp"

#include <gantry/store_generated.h>

namespace gantry::conformance {
namespace {

namespace fs = fb::store;
using fs::Method;
using fs::OpType;
constexpr std::size_t kMaxValue = 1u << 20;
constexpr std::size_t kMaxKey = 480;

// One commit, written as a chain.
class Commit {
 public:
  Commit& put(std::string key, std::string value, std::optional<std::uint64_t> expected = {}) {
    return add(OpType::PUT, std::move(key), std::move(value), expected);
  }
  Commit& del(std::string key, std::optional<std::uint64_t> expected = {}) {
    return add(OpType::DELETE, std::move(key), {}, expected);
  }
  Commit& check(std::string key, std::uint64_t expected) { return add(OpType::CHECK, std::move(key), {}, expected); }
  [[nodiscard]] const fs::CommitT& body() const { return c_; }

 private:
  Commit& add(OpType type, std::string key, std::string value, std::optional<std::uint64_t> expected) {
    auto op = std::make_unique<fs::OpT>();
    op->type = type;
    op->key = std::move(key);
    op->value.assign(value.begin(), value.end());
    if (expected) op->expected = *expected;
    c_.ops.push_back(std::move(op));
    return *this;
  }
  fs::CommitT c_;
};

// The store under test, in the words of the cases.
struct Db {
  Subject& subject;
  Check& check;

  Db(Subject& s, Check& c) : subject(s), check(c) { check.require(check.ok(subject.up(), "configure and start")); }

  Outcome<fs::Committed> commit(const Commit& c) { return subject.call<fs::Committed>(Method::COMMIT, c.body(), {}, 10s); }
  Outcome<fs::Record> get(const std::string& key) {
    fs::GetT g;
    g.key = key;
    return subject.call<fs::Record>(Method::GET, g);
  }
  // A commit that must succeed; the version of its first operation.
  std::uint64_t must(const Commit& c, std::string_view what) {
    const auto r = commit(c);
    check.require(check.ok(r, what));
    check.require(check.equal(r->versions.size(), c.body().ops.size(), "number of versions in the answer (one per operation)"));
    return r->versions.empty() ? 0 : r->versions[0];
  }
  void holds(const std::string& key, const std::string& value) {
    const auto r = get(key);
    if (!check.ok(r, "GET of \"" + key + "\"")) return;
    check.that(std::string(r->value.begin(), r->value.end()) == value,
               "\"" + key + "\" holds " + std::to_string(r->value.size()) + " bytes \"" +
                   std::string(r->value.begin(), r->value.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(r->value.size(), 20))) +
                   "\", not the " + std::to_string(value.size()) + " bytes that were put there");
    check.equal(r->key, key, "key in the record");
    check.that(r->version != 0, "version 0 of an existing record; 0 means absent");
  }
  void absent(const std::string& key) { check.code(get(key), Code::not_found, "GET of \"" + key + "\", which must not exist"); }

  struct Listing {
    std::vector<fs::RecordT> records;
    std::size_t chunks = 0;
    [[nodiscard]] std::vector<std::string> keys() const {
      std::vector<std::string> out;
      for (const auto& r : records) out.push_back(r.key);
      return out;
    }
  };
  Listing list(const std::string& prefix, const std::string& after = {}, std::uint32_t limit = 0, bool keys_only = false) {
    fs::ListT l;
    l.prefix = prefix;
    l.after = after;
    l.limit = limit;
    l.keys_only = keys_only;
    const Pending p = subject.open(Method::LIST, l);
    check.require(check.that(p.wait(10s), "LIST has not ended after 10 s"));
    check.require(check.ok(p.result(), "LIST of \"" + prefix + "\""));
    Listing out;
    out.chunks = p.chunks().size();
    for (const auto& chunk : p.chunks()) {
      auto records = unpack<fs::Records>(Bytes(chunk));
      check.require(check.ok(records, "a chunk of LIST, read as Records"));
      for (auto& r : records->records) out.records.push_back(std::move(*r));
    }
    return out;
  }
};

// The power is cut: what is on the disk at this moment is what the next instance finds. The files are copied, because
// in process the old instance cannot be killed and may still write, or hold a lock, in its own.
void power_cut(Subject& subject, Check& check) {
  namespace stdfs = std::filesystem;
  const std::string work = subject.work_dir(), copy = subject.scratch() + "/at-the-cut", before = subject.scratch() + "/before";
  std::error_code ec;
  stdfs::copy(work, copy, stdfs::copy_options::recursive, ec);
  if (ec) check.skip("the work directory cannot be copied: " + ec.message());
  subject.kill();
  stdfs::rename(work, before, ec);
  if (!ec) stdfs::rename(copy, work, ec);
  if (ec) check.skip("the work directory cannot be replaced: " + ec.message());
  check.require(check.ok(subject.up(), "start on the data of the crash"));
}

}  // namespace

GANTRY_CONFORMANCE(store, get_absent, "GET of a key that nobody put is NOT_FOUND", "answer GET with NOT_FOUND, not with an empty record") {
  Db(subject, check).absent("nobody/put/this");
}

GANTRY_CONFORMANCE(store, put_and_get, "what was put is what is read", "store key, value and version unchanged, whatever bytes they are") {
  Db db(subject, check);
  const std::string bytes("\0\xff any \n bytes\0", 15);
  const auto version = db.must(Commit().put("a/b", "one").put("a/c", bytes), "COMMIT of two PUTs");
  db.holds("a/b", "one");
  db.holds("a/c", bytes);
  if (const auto r = db.get("a/b")) check.equal(r->version, version, "version that GET tells, against the one COMMIT answered");
  const auto second = db.must(Commit().put("a/b", "two"), "COMMIT over an existing key");
  db.holds("a/b", "two");
  if (const auto r = db.get("a/b")) check.equal(r->version, second, "version that GET tells, against the one the second COMMIT answered");
}

GANTRY_CONFORMANCE(store, empty_value, "a record with an empty value exists", "keep an entry for the key even if its value has no bytes") {
  Db db(subject, check);
  db.must(Commit().put("empty", ""), "COMMIT of an empty value");
  db.holds("empty", "");
  check.equal(db.list("empty").keys(), std::vector<std::string>{"empty"}, "LIST");
}

GANTRY_CONFORMANCE(store, largest_value, "a value of 1 MiB is stored", "accept values up to 1048576 bytes") {
  Db db(subject, check);
  const std::string big(kMaxValue, 'x');
  db.must(Commit().put("big/1", big).put("big/2", big), "COMMIT of two values of 1 MiB");
  db.holds("big/2", big);
  check.equal(db.list("big").records.size(), std::size_t{2}, "records listed");
}

GANTRY_CONFORMANCE(store, too_large_value, "a value over 1 MiB is INVALID_ARGUMENT",
                   "refuse larger values in COMMIT with INVALID_ARGUMENT, naming key and size, before anything is applied") {
  Db db(subject, check);
  check.code(db.commit(Commit().put("ok", "1").put("big", std::string(kMaxValue + 1, 'x'))), Code::invalid_argument,
             "COMMIT of 1 MiB and one byte");
  db.absent("big");
  db.absent("ok");
}

GANTRY_CONFORMANCE(store, bad_keys, "keys outside [A-Za-z0-9._~%-] segments are INVALID_ARGUMENT",
                   "check every key in GET and COMMIT: 1 to 480 bytes, segments joined by single '/', none empty") {
  Db db(subject, check);
  for (const std::string key : {"", "/", "/a", "a/", "a//b", "a b", "a\nb", "\xc3\xa4", "a*", "a\\b"}) {
    check.code(db.get(key), Code::invalid_argument, "GET of key \"" + key + "\"");
    check.code(db.commit(Commit().put(key, "x")), Code::invalid_argument, "PUT of key \"" + key + "\"");
    check.code(db.commit(Commit().del(key)), Code::invalid_argument, "DELETE of key \"" + key + "\"");
  }
  check.code(db.commit(Commit().put(std::string(5000, 'k'), "x")), Code::invalid_argument, "PUT of a key of 5000 bytes");
  check.equal(db.list("").records.size(), std::size_t{0}, "records after only refused commits");
}

GANTRY_CONFORMANCE(store, longest_key, "a key of 480 bytes works", "allow keys up to 480 bytes") {
  Db db(subject, check);
  std::string key = "k/%41~.-_";
  key += std::string(kMaxKey - key.size(), 'z');
  db.must(Commit().put(key, "v"), "PUT of a key of 480 bytes");
  db.holds(key, "v");
  check.equal(db.list("k/").keys(), std::vector<std::string>{key}, "LIST");
}

GANTRY_CONFORMANCE(store, delete, "a deleted key is gone, and deleting an absent one is no error",
                   "answer DELETE with version 0 whether or not the key was there") {
  Db db(subject, check);
  db.must(Commit().put("d", "1"), "PUT");
  check.equal(db.must(Commit().del("d"), "DELETE of an existing key"), std::uint64_t{0}, "version of a deleted key");
  db.absent("d");
  check.equal(db.must(Commit().del("d"), "DELETE of an absent key"), std::uint64_t{0}, "version of an absent key");
}

GANTRY_CONFORMANCE(store, versions_grow, "each version of a key is greater than all before it, also after a DELETE",
                   "number commits with a counter that is stored and never goes back, instead of counting per record") {
  Db db(subject, check);
  std::uint64_t last = 0;
  for (int i = 0; i < 4; ++i) {
    const auto v = db.must(Commit().put("v", std::to_string(i)), "PUT");
    check.that(v > last, "version " + std::to_string(v) + " after " + std::to_string(last));
    last = v;
    if (i == 1) db.must(Commit().del("v"), "DELETE");
  }
}

GANTRY_CONFORMANCE(store, expected_version, "an operation whose expected version differs is ABORTED",
                   "compare `expected` with the version that stands there, for PUT and DELETE alike") {
  Db db(subject, check);
  const auto v1 = db.must(Commit().put("e", "1"), "PUT");
  const auto v2 = db.must(Commit().put("e", "2", v1), "PUT with the right version");
  check.code(db.commit(Commit().put("e", "3", v1)), Code::aborted, "PUT with an old version");
  check.code(db.commit(Commit().del("e", v1)), Code::aborted, "DELETE with an old version");
  check.code(db.commit(Commit().put("nobody", "3", v2)), Code::aborted, "PUT of an absent key that should have a version");
  db.holds("e", "2");
  db.must(Commit().del("e", v2), "DELETE with the right version");
  db.absent("e");
}

GANTRY_CONFORMANCE(store, must_not_exist, "expected = 0 means that the key must not exist",
                   "an `expected` that is present and 0 is a condition; only an absent one means any version") {
  Db db(subject, check);
  const auto v = db.must(Commit().put("n", "1", 0), "PUT of a new key with expected = 0");
  check.code(db.commit(Commit().put("n", "2", 0)), Code::aborted, "PUT of an existing key with expected = 0");
  db.holds("n", "1");
  db.must(Commit().del("n", v), "DELETE");
  db.must(Commit().put("n", "3", 0), "PUT with expected = 0 after a DELETE");
}

GANTRY_CONFORMANCE(store, check_only, "CHECK compares and changes nothing", "apply nothing for CHECK; its `value` is ignored") {
  Db db(subject, check);
  const auto v = db.must(Commit().put("c", "1"), "PUT");
  db.must(Commit().check("c", v).check("absent", 0).put("d", "1"), "COMMIT with two CHECKs that hold");
  db.holds("c", "1");
  db.absent("absent");
  if (const auto r = db.get("c")) check.equal(r->version, v, "version after a CHECK");
  check.code(db.commit(Commit().check("c", v + 1).put("f", "1")), Code::aborted, "COMMIT with a CHECK that does not hold");
  db.absent("f");
}

GANTRY_CONFORMANCE(store, all_or_nothing, "a commit that fails has changed nothing",
                   "make the whole COMMIT one transaction and roll it back when any operation is refused") {
  Db db(subject, check);
  db.must(Commit().put("kept", "1").put("other", "1"), "PUT");
  check.code(db.commit(Commit().put("new", "x").put("kept", "x").del("other").put("last", "x", 12345)), Code::aborted,
             "COMMIT whose last operation expects another version");
  check.code(db.commit(Commit().put("new", "x").put("kept", "x").del("other").put("bad//key", "x")), Code::invalid_argument,
             "COMMIT whose last operation has a bad key");
  db.absent("new");
  db.holds("kept", "1");
  db.holds("other", "1");
  check.equal(db.list("").keys(), std::vector<std::string>{"kept", "other"}, "LIST after two failed commits");
}

GANTRY_CONFORMANCE(store, in_order, "operations of a commit apply one after the other",
                   "let each operation see what those before it in the same commit have done") {
  Db db(subject, check);
  db.must(Commit().put("k", "1").put("k", "2").del("k").put("k", "3").put("gone", "1").del("gone"), "COMMIT on the same keys");
  db.holds("k", "3");
  db.absent("gone");
  check.code(db.commit(Commit().put("twice", "1", 0).put("twice", "2", 0)), Code::aborted,
             "COMMIT that creates a key twice with expected = 0");
  db.absent("twice");
}

GANTRY_CONFORMANCE(store, one_winner, "of commits that expect the same version exactly one succeeds",
                   "decide each commit against the result of the one before it, also within a batch") {
  Db db(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 12; ++i) open.push_back(subject.open(Method::COMMIT, Commit().put("lock", std::to_string(i), 0).body()));
  int won = 0;
  std::string winner;
  for (int i = 0; i < 12; ++i) {
    check.require(check.that(open[static_cast<std::size_t>(i)].wait(10s), "a COMMIT has not completed after 10 s"));
    const auto r = open[static_cast<std::size_t>(i)].result<fs::Committed>();
    if (r) ++won, winner = std::to_string(i);
    else check.code(r, Code::aborted, "a COMMIT that lost");
  }
  check.require(check.equal(won, 1, "commits that won"));
  db.holds("lock", winner);
}

GANTRY_CONFORMANCE(store, empty_commit, "a commit without operations is OK", "answer with an empty list of versions") {
  Db db(subject, check);
  db.must(Commit(), "COMMIT of nothing");
}

GANTRY_CONFORMANCE(store, read_your_writes, "GET and LIST see every commit that was answered",
                   "answer a COMMIT only when readers see it; serve reads from the committed state, not from a cache beside it") {
  Db db(subject, check);
  for (int i = 0; i < 20; ++i) {
    const std::string n = std::to_string(i);
    db.must(Commit().put("r/key", n).put("r/" + n, n), "COMMIT");
    db.holds("r/key", n);
    check.equal(db.list("r/").records.size(), static_cast<std::size_t>(i) + 2, "records listed");
  }
}

GANTRY_CONFORMANCE(store, list_in_order, "LIST is in byte order, each key once", "sort keys as bytes, not by segment or locale") {
  Db db(subject, check);
  const std::vector<std::string> sorted{"A", "Z", "a", "a-b", "a.b", "a/b", "a/b/c", "ab", "b", "~"};
  Commit c;
  for (std::size_t i = 0; i < sorted.size(); ++i) c.put(sorted[(i * 7) % sorted.size()], sorted[(i * 7) % sorted.size()]);
  db.must(c, "COMMIT");
  const auto l = db.list("");
  check.equal(l.keys(), sorted, "LIST");
  for (const auto& r : l.records) {
    check.that(std::string(r.value.begin(), r.value.end()) == r.key, "LIST tells a wrong value for \"" + r.key + "\"");
    if (const auto g = db.get(r.key)) check.equal(r.version, g->version, "version of \"" + r.key + "\" in LIST, against GET");
  }
}

GANTRY_CONFORMANCE(store, list_prefix, "a prefix is bytes, not segments", "compare the first bytes of the key and nothing else") {
  Db db(subject, check);
  db.must(Commit().put("a", "").put("a/1", "").put("a/2", "").put("ab", "").put("b", ""), "COMMIT");
  check.equal(db.list("a").keys(), std::vector<std::string>{"a", "a/1", "a/2", "ab"}, "LIST of prefix \"a\"");
  check.equal(db.list("a/").keys(), std::vector<std::string>{"a/1", "a/2"}, "LIST of prefix \"a/\"");
  check.equal(db.list("a/2").keys(), std::vector<std::string>{"a/2"}, "LIST of prefix \"a/2\"");
}

GANTRY_CONFORMANCE(store, list_after_and_limit, "`after` is exclusive and `limit` counts records",
                   "begin behind `after` whether or not it exists, and stop after `limit` records (0: never)") {
  Db db(subject, check);
  db.must(Commit().put("l/1", "").put("l/2", "").put("l/3", "").put("l/4", "").put("m", ""), "COMMIT");
  check.equal(db.list("l/", "l/2").keys(), std::vector<std::string>{"l/3", "l/4"}, "LIST after l/2");
  check.equal(db.list("l/", "l/25").keys(), std::vector<std::string>{"l/3", "l/4"}, "LIST after l/25, which does not exist");
  check.equal(db.list("l/", "", 2).keys(), std::vector<std::string>{"l/1", "l/2"}, "LIST with limit 2");
  check.equal(db.list("l/", "l/1", 2).keys(), std::vector<std::string>{"l/2", "l/3"}, "LIST after l/1 with limit 2");
  check.equal(db.list("l/", "z").keys(), std::vector<std::string>{}, "LIST after the end");
  check.equal(db.list("l/", "a").keys().size(), std::size_t{4}, "records listed after a key before the prefix");
}

GANTRY_CONFORMANCE(store, list_keys_only, "keys_only leaves out the values and keeps the versions",
                   "send records without value; the version is still what GET would tell") {
  Db db(subject, check);
  const auto v = db.must(Commit().put("k/1", "value"), "COMMIT");
  const auto l = db.list("k/", "", 0, true);
  check.require(check.equal(l.records.size(), std::size_t{1}, "records listed"));
  check.that(l.records[0].value.empty(), "a value came along");
  check.equal(l.records[0].version, v, "version");
}

GANTRY_CONFORMANCE(store, list_nothing, "LIST of nothing is an empty stream that ends with OK", "complete with OK, without a chunk") {
  Db db(subject, check);
  check.equal(db.list("").records.size(), std::size_t{0}, "records in a new store");
  db.must(Commit().put("a", "1"), "COMMIT");
  check.equal(db.list("b").records.size(), std::size_t{0}, "records under a foreign prefix");
}

GANTRY_CONFORMANCE(store, list_many, "thousands of records are listed in chunks, completely and in order",
                   "send chunks of some 256 KiB with MORE instead of one huge message") {
  Db db(subject, check);
  Commit c;
  for (int i = 0; i < 3000; ++i) {
    std::string n = std::to_string(i);
    c.put("many/" + std::string(5 - n.size(), '0') + n, std::string(300, 'v'));
  }
  db.must(c, "COMMIT of 3000 records");
  const auto l = db.list("many/");
  check.require(check.equal(l.records.size(), std::size_t{3000}, "records listed"));
  for (std::size_t i = 1; i < l.records.size(); ++i)
    if (!check.that(l.records[i - 1].key < l.records[i].key, "\"" + l.records[i].key + "\" comes after \"" + l.records[i - 1].key + "\"")) break;
  check.that(l.chunks > 1, "900 KB came in one chunk");
}

GANTRY_CONFORMANCE(store, many_commits_at_once, "two hundred commits at once are all applied and answered",
                   "queue what arrives while the disk works; share one sync among those that wait") {
  Db db(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 200; ++i) open.push_back(subject.open(Method::COMMIT, Commit().put("c/" + std::to_string(i), std::to_string(i)).body()));
  for (const auto& p : open) {
    check.require(check.that(p.wait(20s), "a COMMIT has not completed after 20 s"));
    check.require(check.ok(p.result<fs::Committed>(), "one of 200 commits at once"));
  }
  check.equal(db.list("c/").records.size(), std::size_t{200}, "records listed");
}

GANTRY_CONFORMANCE(store, stop_finishes_commits, "STOP answers every commit, and those answered with OK are kept",
                   "let STOP wait for the commits that were accepted, then close") {
  Db db(subject, check);
  std::vector<Pending> open;
  for (int i = 0; i < 30; ++i) open.push_back(subject.open(Method::COMMIT, Commit().put("s/" + std::to_string(i), "x").body()));
  check.require(check.ok(subject.stop(), "STOP with 30 commits open"));
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < open.size(); ++i) {
    check.require(check.that(open[i].wait(1s), "a COMMIT is still open after STOP was answered"));
    if (open[i].code() == Code::ok) kept.push_back("s/" + std::to_string(i));
  }
  check.require(check.ok(subject.restart(), "restart"));
  for (const auto& key : kept) db.holds(key, "x");
}

GANTRY_CONFORMANCE(store, restart_keeps, "a restart keeps what was committed, and nothing else",
                   "write to work_dir (or where the settings say) and read it again at START") {
  Db db(subject, check);
  const std::string big(100'000, 'b');
  const auto v = db.must(Commit().put("a", "1").put("b", "2").put("big", big), "COMMIT");
  db.must(Commit().del("b"), "DELETE");
  check.code(db.commit(Commit().put("never", "1").check("a", v + 1000)), Code::aborted, "COMMIT that must fail");
  check.require(check.ok(subject.restart(), "restart"));
  db.holds("a", "1");
  db.holds("big", big);
  db.absent("b");
  db.absent("never");
  if (const auto r = db.get("a")) check.equal(r->version, v, "version after a restart");
  check.equal(db.list("").keys(), std::vector<std::string>{"a", "big"}, "LIST after a restart");
}

GANTRY_CONFORMANCE(store, crash_keeps_what_was_answered, "after a crash every commit that was answered with OK is there",
                   "write and sync before you complete COMMIT; an answer from memory is a lie that costs tasks") {
  Db db(subject, check);
  db.must(Commit().put("crash/1", "one").put("crash/2", "two"), "COMMIT");
  db.must(Commit().del("crash/2").put("crash/3", std::string(5000, 't')), "COMMIT");
  power_cut(subject, check);
  db.holds("crash/1", "one");
  db.absent("crash/2");
  db.holds("crash/3", std::string(5000, 't'));
  db.must(Commit().put("crash/4", "goes on"), "COMMIT after the crash");
}

GANTRY_CONFORMANCE(store, versions_after_restart, "versions go on growing after a restart",
                   "store the last version given, also when its record was deleted since") {
  Db db(subject, check);
  const auto before = db.must(Commit().put("v", "1"), "PUT");
  db.must(Commit().put("w", "1"), "PUT");
  db.must(Commit().del("v").del("w"), "DELETE");
  check.require(check.ok(subject.restart(), "restart"));
  const auto after = db.must(Commit().put("v", "2"), "PUT after the restart");
  check.that(after > before, "version " + std::to_string(after) + " after " + std::to_string(before) + " before the restart");
}

GANTRY_CONFORMANCE(store, absent_fields, "absent fields mean empty and are no crash", "treat every absent string and list as empty") {
  Db db(subject, check);
  check.code(subject.call(Method::GET, fs::GetT()), Code::invalid_argument, "GET without a key");
  fs::CommitT c;
  c.ops.push_back(std::make_unique<fs::OpT>());
  check.code(subject.call(Method::COMMIT, c), Code::invalid_argument, "COMMIT of an operation without a key");
  check.ok(subject.call(Method::COMMIT, fs::CommitT()), "COMMIT without operations");
  check.ok(subject.call(Method::LIST, fs::ListT()), "LIST without anything");
  db.must(Commit().put("still/works", "1"), "COMMIT after that");
}

}  // namespace gantry::conformance
