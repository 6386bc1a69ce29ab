// Conformance of kind `image`. Contract: sdk/docs/image.md.
//
// The suite makes images below the case's directory, as archives and as plain trees; [fixture] image and other in
// conformance.toml say under which names the module knows two of them.
#include "fetcher_world.hpp"

#include <gantry/image_generated.h>

namespace gantry::conformance {
namespace {

namespace fi = fb::image;
using fi::Method;

// The archives are made by hand, so their digests are known.
constexpr const char* lower_id = "sha256:1f33dec9e287d29470fcb5d47181cf5783a2be6d1039ad4bdc3f77981f9b6532";
constexpr const char* upper_id = "sha256:490d21d386c2fe7b3d0024bb7b8cf0f7565f68cbc755842be9fc04e836ef4469";
constexpr const char* other_id = "sha256:074eafc3dcf929c7838055c44860e8837f5d87b85ba58800abc4c9fe19284da4";

std::string lower() { return Tar().directory("etc/").file("etc/motd", "hello\n").bytes(); }
std::string upper() { return Tar().directory("bin/").file("bin/tool", "#!/bin/sh\n", 0755).bytes(); }
std::string other() { return Tar().directory("etc/").file("etc/other", "other\n").bytes(); }

struct Agent {
  Subject& subject;
  Check& check;
  std::string image, second;

  Agent(Subject& s, Check& c, bool needs_fixture = true) : subject(s), check(c) {
    if (const auto* p = s.fixture("image")) image = *p;
    if (const auto* p = s.fixture("other")) second = *p;
    if (needs_fixture)
      check.needs(!image.empty() && !second.empty(), "no images are known; set image and other under [fixture] in conformance.toml");
    make_images();
    check.require(check.ok(subject.up(), "configure and start"));
    check.require(check.ok(subject.recover(fi::RecoverT{}), "RECOVER without containers"));
  }
  // images/saved.tar, images/other.tar: of docker save. images/tree, images/other: what containers of them see.
  void make_images() const {
    const std::string at = subject.scratch() + "/images/";
    write_file(at + "saved.tar", saved({lower(), upper()}, {lower_id, upper_id}));
    write_file(at + "other.tar", saved({other()}, {other_id}));
    write_file(at + "tree/etc/motd", "hello\n");
    write_file(at + "tree/bin/tool", "#!/bin/sh\n");
    write_file(at + "other/etc/other", "other\n");
  }
  static std::string saved(const std::vector<std::string>& layers, const std::vector<std::string>& ids) {
    Tar t;
    std::string names, list;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string name = "layer" + std::to_string(i) + ".tar";
      t.file(name, layers[i]);
      names += (i ? ",\"" : "\"") + name + "\"";
      list += (i ? ",\"" : "\"") + ids[i] + "\"";
    }
    t.file("config.json",
           R"({"os":"linux","config":{"Cmd":["/bin/tool"],"Env":["A=1"]},"rootfs":{"type":"layers","diff_ids":[)" + list + "]}}");
    t.file("manifest.json", R"([{"Config":"config.json","RepoTags":["conformance:1"],"Layers":[)" + names + "]}]");
    return t.bytes();
  }
  Pending open(const std::string& container, const std::string& name, fi::Policy policy = fi::Policy::IF_ABSENT) {
    fi::PullT p;
    p.container_id = container;
    p.name = name;
    p.policy = policy;
    return subject.open(Method::PULL, p);
  }
  Result<fi::ImageT> pull(const std::string& container, const std::string& name, fi::Policy policy = fi::Policy::IF_ABSENT) {
    const Pending p = open(container, name, policy);
    p.wait(20s);
    return p.result<fi::Image>();
  }
  fi::ImageT pulled(const std::string& container, const std::string& name) {
    auto r = pull(container, name);
    check.require(check.ok(r, "PULL of " + name));
    return std::move(*r);
  }
  Status release(const std::string& container) {
    fi::ReleaseT r;
    r.container_id = container;
    return subject.call(Method::RELEASE, r);
  }
  void released(const std::string& container) { check.ok(release(container), "RELEASE of " + container); }
  Result<fi::PrunedT> prune(const std::vector<std::string>& exclude = {}) {
    fi::PruneT p;
    p.exclude = exclude;
    return subject.call<fi::Pruned>(Method::PRUNE, p, {}, 20s);
  }
  std::set<std::string> listed() {
    std::set<std::string> out;
    const auto r = subject.call<fi::Images>(Method::LIST, fi::ListT{});
    check.require(check.ok(r, "LIST"));
    for (const auto& each : r->images)
      if (each) out.insert(each->name);
    return out;
  }
  Result<fi::ImageT> inspect(const std::string& name) {
    fi::InspectT i;
    i.name = name;
    return subject.call<fi::Image>(Method::INSPECT, i);
  }
  // Whether a container of this image would see the file.
  static bool shows(const fi::ImageT& image, const std::string& file) {
    return std::any_of(image.layers.begin(), image.layers.end(), [&](const std::string& layer) { return exists(layer + "/" + file); });
  }
  void whole(const fi::ImageT& image, const std::string& when) {
    for (const char* file : {"etc/motd", "bin/tool"}) check.that(shows(image, file), std::string(file) + " is in no layer " + when);
  }
};

}  // namespace

GANTRY_CONFORMANCE(image, pull, "PULL gives the layers of an image as directories",
                   "answer when all layers are unpacked; absolute paths, lowest first") {
  Agent a(subject, check);
  const auto image = a.pulled("c1", a.image);
  check.that(!image.id.empty(), "the image has no id");
  check.that(!image.name.empty(), "the image has no name");
  check.require(check.that(!image.layers.empty(), "the image has no layers"));
  for (const auto& layer : image.layers) check.that(layer.starts_with('/'), "layer \"" + layer + "\" is no absolute path");
  a.whole(image, "after PULL");
  check.that(!image.config || image.config->cmd.empty() || image.config->cmd[0] == "/bin/tool", "its Cmd is not what it says");
}

GANTRY_CONFORMANCE(image, pull_again, "a second PULL gives the same image",
                   "the same id and layers, for the same container and for another") {
  Agent a(subject, check);
  const auto first = a.pulled("c1", a.image);
  for (const char* container : {"c1", "c2"}) {
    const auto again = a.pulled(container, a.image);
    check.equal(again.id, first.id, "the id at the second time");
    check.equal(again.layers, first.layers, "the layers at the second time");
  }
}

GANTRY_CONFORMANCE(image, progress, "what comes before the answer is Progress",
                   "send chunks of that table only; every layer each time, done never more than total") {
  Agent a(subject, check);
  const Pending p = a.open("c1", a.image);
  check.require(check.that(p.wait(20s), "PULL does not end"));
  for (std::size_t i = 0; i < p.chunks().size(); ++i) {
    const auto progress = p.chunk<fi::Progress>(i);
    if (!check.ok(progress, "chunk " + std::to_string(i + 1))) continue;
    for (const auto& layer : progress->layers)
      check.that(layer && (layer->total == 0 || layer->done <= layer->total), "a layer has brought more bytes than there are");
  }
}

GANTRY_CONFORMANCE(image, never, "policy NEVER brings nothing", "answer NOT_FOUND if the image is not here, and the image if it is") {
  Agent a(subject, check);
  check.code(a.pull("c1", a.image, fi::Policy::NEVER), Code::not_found, "PULL with NEVER of an image that is not here");
  (void)a.pulled("c2", a.image);
  check.ok(a.pull("c1", a.image, fi::Policy::NEVER), "PULL with NEVER of an image that is here");
}

GANTRY_CONFORMANCE(image, always, "policy ALWAYS asks the source",
                   "it may have to bring nothing, but it must not fail where IF_ABSENT does not") {
  Agent a(subject, check);
  const auto first = a.pulled("c1", a.image);
  const auto again = a.pull("c2", a.image, fi::Policy::ALWAYS);
  if (check.ok(again, "PULL with ALWAYS")) check.equal(again->id, first.id, "the id of an image that did not change");
}

GANTRY_CONFORMANCE(image, not_there, "an image that does not exist is an error that names it",
                   "say which image, and what the source answered") {
  Agent a(subject, check, false);
  const auto r = a.pull("c1", "file://" + subject.scratch() + "/no-such-image.tar");
  if (check.refused(r, "PULL of an image that does not exist"))
    check.that(r.error().message.find("no-such-image") != std::string::npos,
               "the message \"" + r.error().message + "\" does not name the image");
}

GANTRY_CONFORMANCE(image, strange_names, "names that are none are errors, soon", "check names before anything is done with them") {
  Agent a(subject, check, false);
  for (const std::string& name : {std::string(), std::string("../../etc"), std::string("a b"), std::string("@"), std::string(":"),
                                  std::string("x\ny"), std::string("%s%n"), std::string(100'000, 'x')})
    check.refused(a.pull("c1", name), "PULL of a name of " + std::to_string(name.size()) + " bytes that is none");
  check.ok(subject.health(), "HEALTH afterwards");
}

GANTRY_CONFORMANCE(image, strange_ids, "container ids that cannot be names are refused",
                   "answer INVALID_ARGUMENT to an empty id, \"..\", and ids with a slash") {
  Agent a(subject, check);
  for (const char* id : {"", "..", "a/b", "../../x"})
    check.code(a.pull(id, a.image), Code::invalid_argument, std::string("PULL for container \"") + id + "\"");
}

GANTRY_CONFORMANCE(image, other_type, "a type this module does not serve is refused", "answer UNIMPLEMENTED, naming the type") {
  Agent a(subject, check);
  fi::PullT p;
  p.container_id = "c1";
  p.name = a.image;
  p.type = static_cast<fb::ImageType>(77);
  check.refused(subject.call<fi::Image>(Method::PULL, p), "PULL of an image of type 77");
}

GANTRY_CONFORMANCE(image, release_of_unknown, "RELEASE succeeds for containers nobody knows, and twice",
                   "answer OK when there is nothing to release: it comes after crashes, too") {
  Agent a(subject, check);
  a.released("never-heard-of");
  (void)a.pulled("c1", a.image);
  a.released("c1");
  a.released("c1");
}

GANTRY_CONFORMANCE(image, list_and_inspect, "LIST and INSPECT know what was pulled, by whom it is used",
                   "the name of LIST is a name for INSPECT and PULL, too") {
  Agent a(subject, check);
  check.that(a.listed().empty(), "LIST of a fresh module is not empty");
  check.code(a.inspect(a.image), Code::not_found, "INSPECT before PULL");
  const auto image = a.pulled("c1", a.image);
  check.that(a.listed() == std::set<std::string>{image.name}, "LIST does not hold just the image that was pulled");
  const auto seen = a.inspect(image.name);
  if (!check.ok(seen, "INSPECT by the full name")) return;
  check.equal(seen->id, image.id, "the id that INSPECT tells");
  check.equal(seen->containers, std::vector<std::string>{"c1"}, "the containers that INSPECT tells");
}

GANTRY_CONFORMANCE(image, prune_spares_the_used, "PRUNE leaves what a container uses", "count users of layers, not of names") {
  Agent a(subject, check);
  const auto image = a.pulled("c1", a.image);
  (void)a.pulled("c2", a.image);
  a.released("c2");
  const auto pruned = a.prune();
  if (check.ok(pruned, "PRUNE")) check.that(pruned->images.empty(), "PRUNE took an image that is in use");
  a.whole(image, "after PRUNE, though a container uses it");
}

GANTRY_CONFORMANCE(image, prune, "PRUNE takes what nobody uses, and says so",
                   "forget the image and remove its layers; a PULL brings it again") {
  Agent a(subject, check);
  const auto image = a.pulled("c1", a.image);
  a.released("c1");
  const auto pruned = a.prune();
  if (check.ok(pruned, "PRUNE")) check.equal(pruned->images, std::vector<std::string>{image.name}, "what PRUNE says it took");
  check.that(a.listed().empty(), "LIST still holds the image after PRUNE");
  check.code(a.pull("c1", a.image, fi::Policy::NEVER), Code::not_found, "PULL with NEVER after PRUNE");
  a.whole(a.pulled("c1", a.image), "after another PULL");
}

GANTRY_CONFORMANCE(image, prune_excludes, "PRUNE leaves the images it is told to", "compare names in full, however they are written") {
  Agent a(subject, check);
  const auto image = a.pulled("c1", a.image), second = a.pulled("c2", a.second);
  a.released("c1");
  a.released("c2");
  const auto pruned = a.prune({a.image});
  if (check.ok(pruned, "PRUNE")) check.equal(pruned->images, std::vector<std::string>{second.name}, "what PRUNE says it took");
  a.whole(image, "after PRUNE that was to leave it");
}

GANTRY_CONFORMANCE(image, recover_finds_orphans, "after a restart RECOVER tells who used an image and is not alive",
                   "keep users on the disk; leave their images alone until RELEASE") {
  Agent a(subject, check);
  const auto image = a.pulled("alive", a.image);
  (void)a.pulled("dead", a.image);
  check.require(check.ok(subject.restart(), "restart"));
  fi::RecoverT r;
  r.containers = {"alive"};
  const auto recovered = subject.recover<fi::Recovered>(r);
  if (check.ok(recovered, "RECOVER")) check.equal(recovered->orphans, std::vector<std::string>{"dead"}, "the orphans");
  a.released("dead");
  check.ok(a.prune(), "PRUNE");
  a.whole(image, "after PRUNE, though the container that lives uses it");
  a.released("alive");
  check.ok(a.prune(), "PRUNE");
  check.that(a.listed().empty(), "LIST still holds the image after its last container has gone");
}

GANTRY_CONFORMANCE(image, after_a_crash, "an image in use survives the module's death", "what PULL has answered is on the disk") {
  Agent a(subject, check);
  const auto image = a.pulled("c1", a.image);
  subject.kill();
  check.require(check.ok(subject.up(), "configure and start after a crash"));
  fi::RecoverT r;
  r.containers = {"c1"};
  const auto recovered = subject.recover<fi::Recovered>(r);
  if (check.ok(recovered, "RECOVER")) check.that(recovered->orphans.empty(), "a container that lives is called an orphan");
  a.whole(image, "after a crash");
  check.ok(a.pull("c2", a.image, fi::Policy::NEVER), "PULL with NEVER after a crash");
}

GANTRY_CONFORMANCE(image, side_by_side, "pulls at the same time do not disturb each other",
                   "bring a layer once, and let all who want it wait") {
  Agent a(subject, check);
  std::vector<Pending> all;
  for (int i = 0; i < 12; ++i) all.push_back(a.open("c" + std::to_string(i), i % 3 ? a.image : a.second));
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].wait(20s);
    const auto r = all[i].result<fi::Image>();
    if (!check.ok(r, "PULL " + std::to_string(i + 1) + " of 12 at once")) continue;
    if (i % 3)
      a.whole(*r, "of a pull among twelve");
    else
      check.that(Agent::shows(*r, "etc/other"), "etc/other is in no layer of the other image");
  }
}

GANTRY_CONFORMANCE(image, cancel, "a PULL that is cancelled ends",
                   "stop transfers and unpacking; with CANCELLED, or with the image if it was done") {
  Agent a(subject, check);
  const Pending p = a.open("c1", a.image);
  p.cancel();
  check.that(p.wait(3s), "PULL has not ended 3 s after it was cancelled");
  check.ok(a.pull("c2", a.image), "PULL after that");
}

GANTRY_CONFORMANCE(image, stop_while_pulling, "STOP ends what is under way",
                   "cancel pulls; the beginning of a layer may stay for the next time") {
  Agent a(subject, check);
  const Pending p = a.open("c1", a.image), q = a.open("c2", a.second);
  check.ok(subject.stop(), "STOP");
  check.that(p.wait(3s) && q.wait(3s), "PULL has not ended 3 s after STOP");
}

GANTRY_CONFORMANCE(image, absent_fields, "absent fields mean empty and are no crash", "treat every absent string and list as empty") {
  Agent a(subject, check);
  check.refused(subject.call<fi::Image>(Method::PULL, fi::PullT()), "PULL without anything");
  check.that(subject.open(Method::RELEASE, fi::ReleaseT()).wait(), "RELEASE without anything has not completed");
  check.refused(subject.call<fi::Image>(Method::INSPECT, fi::InspectT()), "INSPECT without anything");
  check.ok(subject.call<fi::Pruned>(Method::PRUNE, fi::PruneT()), "PRUNE without anything");
  a.whole(a.pulled("c1", a.image), "of a pull after that");
}

}  // namespace gantry::conformance
