#include "files.hpp"

#include "wire/codec.hpp"
#include "wrap.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

namespace gantry::gateway_mesos {
namespace {

constexpr std::uint64_t kPage = 65536;  // the most that /files/read gives at once

// "-rw-r--r--", as ls has it.
std::string mode_text(std::uint32_t mode) {
  std::string out = S_ISDIR(mode) ? "d" : S_ISLNK(mode) ? "l" : S_ISFIFO(mode) ? "p" : S_ISSOCK(mode) ? "s" : S_ISCHR(mode) ? "c" : S_ISBLK(mode) ? "b" : "-";
  for (const std::uint32_t bit : {0400u, 0200u, 0100u, 040u, 020u, 010u, 04u, 02u, 01u}) {
    const char letter = bit & 0444 ? 'r' : bit & 0222 ? 'w' : 'x';
    out += mode & bit ? letter : '-';
  }
  return out;
}

void field(std::string& out, std::string_view name, std::string_view value) {
  out += out.back() == '{' ? "\"" : ",\"";
  out += name;
  out += "\":";
  wire::append_string(out, value);
}
void field(std::string& out, std::string_view name, std::int64_t value) {
  out += out.back() == '{' ? "\"" : ",\"";
  out += name;
  out += "\":" + std::to_string(value);
}

std::string rows(const fb::ops::ListFiles* files) {
  std::string out = "[";
  if (files && files->file_infos()) {
    for (const auto* f : *files->file_infos()) {
      out += out.size() > 1 ? ",{" : "{";
      field(out, "gid", text(f->gid()));
      field(out, "mode", mode_text(f->mode().value_or(0)));
      field(out, "mtime", f->mtime_ns().value_or(0) / 1'000'000'000);
      out += ".0";  // a double to clients
      field(out, "nlink", static_cast<std::int64_t>(f->nlink().value_or(0)));
      field(out, "path", text(f->path()));
      field(out, "size", static_cast<std::int64_t>(f->size().value_or(0)));
      field(out, "uid", text(f->uid()));
      out += '}';
    }
  }
  return out += ']';
}

std::string_view bytes_of(const fb::ops::ReadFile* file) {
  const auto* data = file ? file->data() : nullptr;
  return data ? std::string_view(reinterpret_cast<const char*>(data->data()), data->size()) : std::string_view();
}

// Where the client names no path it has been answered.
const std::string* path_of(const ExchangePtr& e) {
  const std::string* path = e->query("path");
  if (path && !path->empty()) return path;
  e->text(400, "Expecting 'path=value' in query.\n");
  return nullptr;
}

}  // namespace

Result<std::string> daemon_path(const std::string& path, std::string_view log) {
  if (path == log) return std::string(kDaemonLog);
  if (path == kDaemonLog || path == "/") return fail(Code::not_found, "path '" + path + "' is not known");
  return path;
}

void Files::routes(Router& router, const char* realm) {
  const auto add = [&](std::string path, Handler handler) { router.add({std::move(path), {"GET", "POST"}, false, std::move(handler), realm}); };
  add("/files/browse", [this](const ExchangePtr& e) { browse(e); });
  add("/files/read", [this](const ExchangePtr& e) { read(e); });
  add("/files/download", [this](const ExchangePtr& e) {
    const std::string* path = path_of(e);
    if (path) source_.guard(e, *path, [this, e, path = *path] { download(e, path, 0, 0); });
  });
}

void Files::refuse(const ExchangePtr& e, const Error& why) {
  if (why.code == Code::not_found) return e->answer(404, {}, kText);
  if (why.code == Code::failed_precondition) return e->text(400, why.message);
  exchange_error(e, why);
}

std::string Files::debug(const std::map<std::string, std::string>& paths) {
  std::string out = "{";
  for (const auto& [from, to] : paths) {
    if (out.size() > 1) out += ',';
    wire::append_string(out, from);
    out += ':';
    wire::append_string(out, to);
  }
  return out + "}";
}

void Files::browse(const ExchangePtr& e) {
  const std::string* path = path_of(e);
  if (!path) return;
  source_.guard(e, *path, [this, e, path = *path] {
    fb::ops::FilesQueryT query;
    query.path = path;
    source_.list(e, std::move(query), [e](Result<const fb::ops::ListFiles*> files) {
      if (!files) return refuse(e, files.error());
      finish(e, rows(*files), kJson);
    });
  });
}

void Files::read(const ExchangePtr& e) {
  const std::string* path = path_of(e);
  if (!path) return;
  long long offset = -1, length = -1;
  for (const auto& [name, into] : {std::pair{"offset", &offset}, std::pair{"length", &length}}) {
    const std::string* given = e->query(name);
    if (!given) continue;
    char* end = nullptr;
    *into = std::strtoll(given->c_str(), &end, 10);
    if (given->empty() || *end) return e->text(400, std::string("Failed to parse ") + name + ": '" + *given + "' is not a number.\n");
    if (*into < -1) return e->text(400, std::string("Negative ") + name + " provided: " + *given + ".\n");
  }
  source_.guard(e, *path, [this, e, path = *path, offset, length] {
    fb::ops::FileQueryT query;
    query.path = path;
    query.offset = offset < 0 ? 0 : static_cast<std::uint64_t>(offset);
    query.length = offset < 0 ? 0 : length < 0 ? kPage : std::min(static_cast<std::uint64_t>(length), kPage);
    source_.read(e, std::move(query), [e, offset](Result<const fb::ops::ReadFile*> file) {
      if (!file) return refuse(e, file.error());
      std::string out = "{\"data\":";
      wire::append_string(out, bytes_of(*file));
      out += ",\"offset\":" + std::to_string(offset < 0 ? static_cast<long long>((*file)->size()) : offset) + "}";
      finish(e, std::move(out), kJson);
    });
  });
}

// In pieces, so that a large file is never in memory as a whole. Each is asked for when there is room for it. `size`: what was
// announced; a file that grows meanwhile is sent as it was, one that shrinks ends the connection early.
void Files::download(const ExchangePtr& e, const std::string& path, std::uint64_t offset, std::uint64_t size) {
  fb::ops::FileQueryT query;
  query.path = path;
  query.offset = offset;
  if (offset) query.length = size - offset;
  source_.read(e, std::move(query), [this, alive = alive_, e, path, offset, size](Result<const fb::ops::ReadFile*> file) {
    if (offset && !e->streaming()) return;
    if (!file && offset) return e->end();
    if (!file) return refuse(e, file.error());
    const std::uint64_t announced = offset ? size : (*file)->size();
    std::string_view piece = bytes_of(*file);
    piece = piece.substr(0, std::min<std::uint64_t>(piece.size(), announced - offset));
    const bool over = piece.empty() || offset + piece.size() == announced;
    Headers headers = {{"Content-Disposition", "attachment; filename=" + path.substr(path.rfind('/') + 1)}};
    if (offset == 0 && over) return e->answer(200, piece, "application/octet-stream", std::move(headers));
    if (offset == 0) {
      headers.emplace_back("Content-Length", std::to_string(announced));
      e->begin(200, "application/octet-stream", std::move(headers), {}, [] {});
    }
    if (piece.empty()) return e->end();
    e->write(piece, [this, alive, e, path, next = offset + piece.size(), announced] {
      if (!*alive) return;
      if (next == announced) return e->end();
      download(e, path, next, announced);
    });
  });
}

}  // namespace gantry::gateway_mesos
