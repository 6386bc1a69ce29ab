#include "environment.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace gantry::store_lmdb {
namespace {

constexpr std::size_t max_key = 480;  // LMDB allows 511
constexpr std::size_t max_value = 1u << 20;
// Every value starts with its version; the last version given lives under a key no caller can have (it holds a zero byte).
constexpr std::string_view version_key{"\0version", 8};

Code code_of(int rc) {
  switch (rc) {
    case ENOSPC: case EDQUOT: case EFBIG: case MDB_MAP_FULL: case ENOMEM: return Code::resource_exhausted;
    case EACCES: case EROFS: case EPERM: return Code::failed_precondition;
    case MDB_CORRUPTED: case MDB_INVALID: case MDB_PAGE_NOTFOUND: case MDB_VERSION_MISMATCH: case MDB_PANIC: return Code::data_loss;
    default: return Code::unavailable;
  }
}

std::string remedy(int rc) {
  switch (rc) {
    case ENOSPC: case EDQUOT: return "; free disk space, nothing was stored";
    case MDB_MAP_FULL: return "; raise [store.lmdb] max_size, nothing was stored";
    default: return {};
  }
}

MDB_val val(std::string_view s) { return {s.size(), const_cast<char*>(s.data())}; }
std::string_view str(const MDB_val& v) { return {static_cast<const char*>(v.mv_data), v.mv_size}; }

std::uint64_t version_of(const MDB_val& v) {
  std::uint64_t version = 0;
  if (v.mv_size >= sizeof version) std::memcpy(&version, v.mv_data, sizeof version);
  return version;
}
Bytes value_of(const MDB_val& v) {
  if (v.mv_size < sizeof(std::uint64_t)) return {};
  return {static_cast<const std::uint8_t*>(v.mv_data) + sizeof(std::uint64_t), v.mv_size - sizeof(std::uint64_t)};
}

Status check_key(std::string_view key) {
  if (key.empty() || key.size() > max_key)
    return fail(Code::invalid_argument, "key of " + std::to_string(key.size()) + " bytes; a key has 1 to " + std::to_string(max_key));
  char last = '/';
  for (const char c : key) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                      c == '~' || c == '%' || c == '-' || (c == '/' && last != '/');
    if (!good) return fail(Code::invalid_argument, "key \"" + std::string(key) + "\": segments of [A-Za-z0-9._~%-] joined by '/' are allowed");
    last = c;
  }
  if (last == '/') return fail(Code::invalid_argument, "key \"" + std::string(key) + "\" ends with '/'");
  return ok;
}

// LMDB maps the file: a page missing at its end would be a SIGBUS in the middle of a read, so it is found now.
Status check_size(MDB_env* env, const std::string& file) {
  MDB_envinfo info{};
  MDB_stat stat{};
  mdb_env_info(env, &info);
  mdb_env_stat(env, &stat);
  struct stat st{};
  if (::stat(file.c_str(), &st) != 0) return fail(code_of(errno), "store " + file + ": " + std::strerror(errno));
  const std::uint64_t need = (info.me_last_pgno + 1) * stat.ms_psize;
  // A store nothing was ever written to has no pages beyond the two meta pages.
  if (static_cast<std::uint64_t>(st.st_size) < need)
    return fail(Code::data_loss, "store " + file + " is truncated: it has " + std::to_string(st.st_size) + " of " + std::to_string(need) +
                                     " bytes; restore it from a backup, or move its folder away to start empty");
  return ok;
}

bool disk_full(const std::string& directory) {
  struct statvfs s{};
  return ::statvfs(directory.c_str(), &s) == 0 && s.f_bavail * s.f_frsize < (1u << 20);
}

struct ReadTxn {
  MDB_txn* txn = nullptr;
  ~ReadTxn() {
    if (txn) mdb_txn_abort(txn);
  }
};

}  // namespace

Result<std::unique_ptr<Environment>> Environment::open(const std::string& directory, std::uint64_t max_size, bool sync) {
  std::unique_ptr<Environment> e(new Environment);
  e->directory_ = directory;
  const std::string file = directory + "/data.mdb";
  const std::string marker = directory + "/FORMAT";
  const auto refuse = [&](const char* what, int err) {
    return fail(code_of(err), "store " + directory + ": cannot " + what + ": " + std::strerror(err) +
                                  "; the folder must exist and be writable by the daemon's user");
  };
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return refuse("make the folder", errno);
  // LMDB's own lock guards readers and writers, but a second kernel on the same data is a mistake to name at once.
  e->lock_fd_ = ::open((directory + "/LOCK").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (e->lock_fd_ < 0) return refuse("open LOCK", errno);
  if (::flock(e->lock_fd_, LOCK_EX | LOCK_NB) != 0)
    return fail(Code::failed_precondition, "store " + directory + " is in use by another process; each daemon needs a work_dir of its own");
  const bool marked = ::access(marker.c_str(), F_OK) == 0;
  struct stat st{};
  const bool empty = ::stat(file.c_str(), &st) != 0 || st.st_size == 0;
  if (marked && empty)
    return fail(Code::data_loss, "store " + file + " is missing or empty although it was in use; restore it from a backup, or remove " +
                                     marker + " to start empty");
  if (const int rc = mdb_env_create(&e->env_); rc != 0) return fail(Code::internal, mdb_strerror(rc));
  mdb_env_set_mapsize(e->env_, max_size);
  mdb_env_set_maxreaders(e->env_, 64);
  const int rc = mdb_env_open(e->env_, directory.c_str(), MDB_NOTLS | (sync ? 0u : static_cast<unsigned>(MDB_NOSYNC)), 0600);
  if (rc != 0) {
    if (code_of(rc) == Code::data_loss)
      return fail(Code::data_loss, "store " + file + " is damaged (" + mdb_strerror(rc) + "); restore it from a backup, or move its folder away to start empty");
    return fail(code_of(rc), "store " + directory + ": cannot open: " + mdb_strerror(rc) + "; the folder must be writable and the disk not full");
  }
  if (!empty) GANTRY_CHECK(check_size(e->env_, file));
  MDB_txn* txn = nullptr;
  int step = mdb_txn_begin(e->env_, nullptr, 0, &txn);
  if (step == 0) step = mdb_dbi_open(txn, nullptr, MDB_CREATE, &e->dbi_);
  if (step == 0) step = mdb_txn_commit(txn);
  else if (txn) mdb_txn_abort(txn);
  if (step != 0) return fail(code_of(step), "store " + directory + ": cannot start: " + mdb_strerror(step) + remedy(step));
  if (!marked) {
    const int fd = ::open(marker.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return refuse("write FORMAT", errno);
    const bool written = ::write(fd, "1\n", 2) == 2;
    const int err = errno;
    ::close(fd);
    if (!written) return refuse("write FORMAT", err);
  }
  return e;
}

Environment::~Environment() {
  if (env_) mdb_env_close(env_);
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<fb::store::CommittedT> Environment::apply(MDB_txn* parent, const fb::store::CommitT& commit, std::uint64_t version) {
  for (const auto& op : commit.ops) {
    GANTRY_CHECK(check_key(op->key));
    if (op->value.size() > max_value)
      return fail(Code::invalid_argument, "value of \"" + op->key + "\" has " + std::to_string(op->value.size()) + " bytes; at most 1 MiB is stored under one key");
  }
  MDB_txn* txn = nullptr;
  if (const int rc = mdb_txn_begin(env_, parent, 0, &txn); rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  fb::store::CommittedT out;
  std::vector<std::uint8_t> stored;
  const auto abort = [&](Error e) {
    mdb_txn_abort(txn);
    return e;
  };
  for (const auto& op : commit.ops) {
    MDB_val key = val(op->key);
    MDB_val old{};
    const int found = mdb_get(txn, dbi_, &key, &old);
    if (found != 0 && found != MDB_NOTFOUND) return abort(fail(code_of(found), std::string("store: ") + mdb_strerror(found)));
    const std::uint64_t have = found == 0 ? version_of(old) : 0;
    if (op->expected.has_value() && *op->expected != have)
      return abort(fail(Code::aborted, "\"" + op->key + "\" has version " + std::to_string(have) + ", not " + std::to_string(*op->expected) + "; nothing was stored"));
    int rc = 0;
    std::uint64_t now = have;
    if (op->type == fb::store::OpType::PUT) {
      stored.resize(sizeof version + op->value.size());
      std::memcpy(stored.data(), &version, sizeof version);
      if (!op->value.empty()) std::memcpy(stored.data() + sizeof version, op->value.data(), op->value.size());
      MDB_val value{stored.size(), stored.data()};
      rc = mdb_put(txn, dbi_, &key, &value, 0);
      now = version;
    } else if (op->type == fb::store::OpType::DELETE) {
      rc = found == 0 ? mdb_del(txn, dbi_, &key, nullptr) : 0;
      now = 0;
    }
    if (rc != 0) return abort(fail(code_of(rc), std::string("store: ") + mdb_strerror(rc) + remedy(rc)));
    out.versions.push_back(now);
  }
  if (const int rc = mdb_txn_commit(txn); rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc) + remedy(rc));
  return out;
}

std::vector<Result<fb::store::CommittedT>> Environment::commit(const std::vector<const fb::store::CommitT*>& commits) {
  std::vector<Result<fb::store::CommittedT>> results;
  const auto all_fail = [&](int rc) {
    results.clear();
    for (std::size_t i = 0; i < commits.size(); ++i) results.emplace_back(fail(code_of(rc), std::string("store: ") + mdb_strerror(rc) + remedy(rc)));
    return std::move(results);
  };
  MDB_txn* txn = nullptr;
  if (const int rc = mdb_txn_begin(env_, nullptr, 0, &txn); rc != 0) return all_fail(rc);
  MDB_val key = val(version_key);
  MDB_val have{};
  std::uint64_t version = mdb_get(txn, dbi_, &key, &have) == 0 ? version_of(have) : 0;
  bool changed = false;
  for (const auto* commit : commits) {
    results.push_back(apply(txn, *commit, ++version));
    changed = changed || results.back().has_value();
  }
  if (!changed) {
    mdb_txn_abort(txn);
    return results;
  }
  MDB_val value{sizeof version, &version};
  int rc = mdb_put(txn, dbi_, &key, &value, 0);
  if (rc == 0) rc = mdb_txn_commit(txn);
  else mdb_txn_abort(txn);
  if (rc == EIO && disk_full(directory_)) rc = ENOSPC;  // LMDB calls a short write EIO
  if (rc != 0) return all_fail(rc);
  return results;
}

Result<fb::store::RecordT> Environment::get(std::string_view key) const {
  GANTRY_CHECK(check_key(key));
  ReadTxn read;
  if (const int rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &read.txn); rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  MDB_val k = val(key);
  MDB_val v{};
  const int rc = mdb_get(read.txn, dbi_, &k, &v);
  if (rc == MDB_NOTFOUND) return fail(Code::not_found, "no record \"" + std::string(key) + "\"");
  if (rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  fb::store::RecordT record;
  record.key = key;
  record.version = version_of(v);
  const Bytes value = value_of(v);
  record.value.assign(value.begin(), value.end());
  return record;
}

Status Environment::list(std::string_view prefix, std::string_view after,
                         const std::function<bool(std::string_view, Bytes, std::uint64_t)>& each) const {
  ReadTxn read;
  if (const int rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &read.txn); rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  MDB_cursor* cursor = nullptr;
  if (const int rc = mdb_cursor_open(read.txn, dbi_, &cursor); rc != 0) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  const std::string_view start = std::max(prefix, after);
  MDB_val k = val(start.empty() ? std::string_view("!") : start);
  MDB_val v{};
  int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
  while (rc == 0) {
    const std::string_view key = str(k);
    if (!key.starts_with(prefix)) break;
    if (key > after && key != version_key && !each(key, value_of(v), version_of(v))) break;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
  }
  mdb_cursor_close(cursor);
  if (rc != 0 && rc != MDB_NOTFOUND) return fail(code_of(rc), std::string("store: ") + mdb_strerror(rc));
  return ok;
}

}  // namespace gantry::store_lmdb
