#include "master_files.hpp"

#include "../wrap.hpp"

#include <gantry/host_generated.h>

namespace gantry::gateway_mesos {
namespace {

namespace om = fb::master;
using C = om::CallType;

constexpr auto kCall = static_cast<std::uint32_t>(fb::host::OperateMethod::CALL);
const Ask kMayReadLog = {"access_mesos_log", {}};

}  // namespace

MasterFiles::MasterFiles(Host& host, Access& access)
    : host_(host), access_(access),
      files_({[this](const ExchangePtr& e, fb::ops::FilesQueryT query, Files::Source::Listed then) {
                om::CallT call;
                call.type = C::LIST_FILES;
                call.list_files = std::make_unique<fb::ops::FilesQueryT>(std::move(query));
                ask(e, std::move(call), [then = std::move(then)](Result<const om::Response*> r) mutable {
                  if (!r) return then(r.error());
                  then((*r)->list_files());
                });
              },
              [this](const ExchangePtr& e, fb::ops::FileQueryT query, Files::Source::Read then) {
                om::CallT call;
                call.type = C::READ_FILE;
                call.read_file = std::make_unique<fb::ops::FileQueryT>(std::move(query));
                ask(e, std::move(call), [then = std::move(then)](Result<const om::Response*> r) mutable {
                  if (!r) return then(r.error());
                  if (!(*r)->read_file()) return then(fail(Code::internal, "the master's answer is malformed"));
                  then((*r)->read_file());
                });
              },
              [this](const ExchangePtr& e, const std::string&, Function<void()> then) { access_.guard(e, {kMayReadLog}, std::move(then)); }}) {}

void MasterFiles::routes(Router& router) {
  files_.routes(router, kReadonlyRealm);
  router.add({"/files/debug", {"GET", "POST"}, false, [this](const ExchangePtr& e) {
                access_.guard(e, "get_endpoint", "/files/debug", [this, e] { debug(e); });
              }, kReadonlyRealm});
}

void MasterFiles::call(const ExchangePtr& e, const om::Call& call, std::function<void(const om::ResponseT&)> answer) {
  const bool listing = call.type() == C::LIST_FILES;
  if (listing ? !call.list_files() : !call.read_file())
    return e->text(400, std::string("Failed to validate master::Call: Expecting '") + (listing ? "list_files" : "read_file") + "' to be present");
  auto asked = std::make_shared<om::CallT>();
  call.UnPackTo(asked.get());
  access_.guard(e, {kMayReadLog}, [this, e, asked, answer = std::move(answer)] {
    ask(e, std::move(*asked), [e, answer](Result<const om::Response*> response) {
      if (!response) return Files::refuse(e, response.error());
      om::ResponseT files;
      (*response)->UnPackTo(&files);
      answer(files);
    });
  });
}

void MasterFiles::ask(const ExchangePtr& e, om::CallT call, Told then) {
  std::string& path = call.list_files ? call.list_files->path : call.read_file->path;
  auto there = daemon_path(path, kMasterLog);
  if (!there) return then(there.error());
  path = std::move(*there);
  tell(e, call, std::move(then));
}

void MasterFiles::tell(const ExchangePtr& e, const om::CallT& call, Told then) {
  fb::host::OperateT body;
  body.principal = e->principal();
  const Buffer packed = pack(call);
  body.call.assign(packed.data(), packed.data() + packed.size());
  const Buffer request = pack(body);
  auto shared = std::make_shared<Told>(std::move(then));
  host_.stream(fb::host::Service::OPERATE, kCall, Bytes(request), [alive = alive_, shared](gantry_code code, Bytes reply) {
    if (code == GANTRY_MORE || !*alive) return;
    if (code < 0) return (*shared)(unpack_error(code, reply));
    const auto* response = view<om::Response>(reply);
    if (!response) return (*shared)(fail(Code::internal, "the master's answer is malformed"));
    (*shared)(response);
  });
}

void MasterFiles::debug(const ExchangePtr& e) {
  om::CallT own;
  own.type = C::LIST_FILES;
  own.list_files = std::make_unique<fb::ops::FilesQueryT>();
  own.list_files->path = "/";
  tell(e, own, [e](Result<const om::Response*> r) {
    std::map<std::string, std::string> paths;  // it may have no log to show
    if (const auto* infos = r && (*r)->list_files() ? (*r)->list_files()->file_infos() : nullptr; infos && infos->size())
      paths.emplace(kMasterLog, text(infos->Get(0)->path()));
    finish(e, Files::debug(paths), kJson);
  });
}

}  // namespace gantry::gateway_mesos
