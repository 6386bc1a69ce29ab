#include "kernel/agent/volumes.hpp"

#include <gantry/message.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace gantry::agent {
namespace {

namespace fs = std::filesystem;

struct Dir {
  Dir() {
    char name[] = "/tmp/gantry-volumes-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Dir() { fs::remove_all(path); }
  std::string path;
};

fb::ResourceT volume(const std::string& role, const std::string& id, const std::string& at = "data") {
  fb::ResourceT r;
  r.name = "disk";
  r.scalar = 64;
  auto reservation = std::make_unique<fb::ReservationInfoT>();
  reservation->role = role;
  reservation->type = fb::ReservationType::DYNAMIC;
  r.reservations.push_back(std::move(reservation));
  r.disk = std::make_unique<fb::DiskInfoT>();
  r.disk->persistence = std::make_unique<fb::PersistenceT>();
  r.disk->persistence->id = id;
  r.disk->volume = std::make_unique<fb::VolumeT>();
  r.disk->volume->container_path = at;
  return r;
}
template <class... T>
std::vector<std::unique_ptr<fb::ResourceT>> list(T... r) {
  std::vector<std::unique_ptr<fb::ResourceT>> out;
  (out.push_back(std::make_unique<fb::ResourceT>(std::move(r))), ...);
  return out;
}
VolumeChanges say(const std::string& dir, std::vector<std::unique_ptr<fb::ResourceT>> total, std::string_view registry = "reg") {
  fb::link::SetResourcesT s;
  s.total = std::move(total);
  const Buffer b = pack(s);
  auto changes = change_volumes(dir, *view<fb::link::SetResources>(b), registry);
  remove_trash(changes.trash);
  return changes;
}

TEST(Volumes, AreMadeAndRemovedAsTheMasterSays) {
  Dir d;
  EXPECT_TRUE(say(d.path, {}).made.empty());
  EXPECT_FALSE(fs::exists(d.path + "/meta")) << "nothing to remember";
  const std::string a = d.path + "/volumes/roles/eng/a", b = d.path + "/volumes/roles/eng web/b";
  EXPECT_EQ(say(d.path, list(volume("eng", "a"), volume("eng/web", "b"))).made.size(), 2u);
  EXPECT_TRUE(fs::is_directory(a));
  EXPECT_TRUE(fs::is_directory(b));
  std::ofstream(a + "/file") << "x";
  EXPECT_TRUE(say(d.path, list(volume("eng", "a"), volume("eng/web", "b"))).made.empty());
  EXPECT_TRUE(fs::exists(a + "/file"));
  const auto changes = say(d.path, list(volume("eng", "a")));
  EXPECT_EQ(changes.removed, std::vector<std::string>{b});
  EXPECT_FALSE(fs::exists(b));
  EXPECT_EQ(say(d.path, {}).removed.size(), 1u);
  EXPECT_FALSE(fs::exists(a));
  EXPECT_TRUE(say(d.path, {}).removed.empty());
}

TEST(Volumes, AnotherRegistryRemovesNothing) {
  Dir d;
  say(d.path, list(volume("eng", "a")));
  const auto changes = say(d.path, {}, "other");
  EXPECT_TRUE(changes.removed.empty());
  EXPECT_EQ(changes.problems.size(), 1u);
  EXPECT_TRUE(fs::exists(d.path + "/volumes/roles/eng/a"));
}

TEST(Volumes, OfOtherDisks) {
  Dir d;
  auto path = volume("eng", "p");
  path.disk->source = std::make_unique<fb::DiskSourceT>();
  path.disk->source->type = fb::DiskSourceType::PATH;
  path.disk->source->path_root = d.path + "/disk1";
  auto mount = volume("eng", "m");
  mount.disk->source = std::make_unique<fb::DiskSourceT>();
  mount.disk->source->type = fb::DiskSourceType::MOUNT;
  mount.disk->source->mount_root = d.path + "/disk2";
  fs::create_directories(d.path + "/disk2");
  say(d.path, list(std::move(path), std::move(mount)));
  EXPECT_TRUE(fs::is_directory(d.path + "/disk1/volumes/roles/eng/p"));
  std::ofstream(d.path + "/disk2/file") << "x";
  say(d.path, {});
  EXPECT_FALSE(fs::exists(d.path + "/disk1/volumes/roles/eng/p"));
  EXPECT_TRUE(fs::is_directory(d.path + "/disk2")) << "the root stays";
  EXPECT_FALSE(fs::exists(d.path + "/disk2/file"));
}

TEST(Volumes, NamesLeadNowhereElse) {
  EXPECT_EQ(volume_path("/w", volume("eng", "..")), "");
  EXPECT_EQ(volume_path("/w", volume("eng", "a/b")), "");
  EXPECT_EQ(volume_path("/w", volume("..", "a")), "");
  fb::ResourceT plain;
  plain.name = "disk";
  EXPECT_EQ(volume_path("/w", plain), "");
}

TEST(Volumes, AreLinkedIntoSandboxes) {
  Dir d;
  const std::string sandbox = d.path + "/sandbox";
  fs::create_directories(sandbox);
  const Account account;
  EXPECT_TRUE(link_volumes(d.path, sandbox, list(volume("eng", "a")), account));
  std::ofstream(sandbox + "/data/file") << "x";
  EXPECT_TRUE(fs::exists(d.path + "/volumes/roles/eng/a/file"));
  EXPECT_TRUE(link_volumes(d.path, sandbox, list(volume("eng", "a")), account)) << "a second task of an executor";
  EXPECT_FALSE(link_volumes(d.path, sandbox, list(volume("eng", "b")), account)) << "something else is there";
  EXPECT_FALSE(link_volumes(d.path, sandbox, list(volume("eng", "c", "../out")), account));
  EXPECT_FALSE(link_volumes(d.path, sandbox, list(volume("eng", "c", "/abs")), account));
  fs::remove_all(sandbox);
  EXPECT_TRUE(fs::exists(d.path + "/volumes/roles/eng/a/file")) << "the data outlives the sandbox";
}

}  // namespace
}  // namespace gantry::agent
