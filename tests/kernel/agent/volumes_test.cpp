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

fb::ResourceT disk_volume(const std::string& role, const std::string& id, const std::string& root) {
  auto r = volume(role, id);
  r.disk->source = std::make_unique<fb::DiskSourceT>();
  r.disk->source->type = fb::DiskSourceType::MOUNT;
  r.disk->source->mount_root = root;
  return r;
}
// Whatever lies in `dir` that its users see.
std::vector<std::string> seen(const std::string& dir) {
  std::vector<std::string> out;
  for (const auto& e : fs::directory_iterator(dir))
    if (e.path().filename().string().rfind(".gantry-kept-", 0) != 0) out.push_back(e.path().filename().string());
  return out;
}

// The master destroyed the volume and made another on the same disk while this agent was away: it hears of the outcome only.
TEST(Volumes, ADiskThatWentToAnotherRoleIsEmpty) {
  Dir d;
  const std::string disk = d.path + "/disk";
  fs::create_directories(disk);
  say(d.path, list(disk_volume("eng", "v", disk)));
  std::ofstream(disk + "/secret") << "x";
  fs::create_directories(disk + "/deep/er");
  say(d.path, list(disk_volume("eng", "v", disk)));
  EXPECT_TRUE(fs::exists(disk + "/secret")) << "the same volume";
  for (const auto& [role, id] : {std::pair{"ops", "v"}, {"ops", "w"}}) {
    const auto changes = say(d.path, list(disk_volume(role, id, disk)));
    EXPECT_EQ(changes.removed.size(), 1u) << role << id;
    EXPECT_EQ(changes.made.size(), 1u) << role << id;
    EXPECT_TRUE(seen(disk).empty()) << role << id;
    std::ofstream(disk + "/secret") << "x";
  }
}

TEST(Volumes, TrashIsOnlyWhatWasMovedThere) {
  Dir d;
  const std::string disk = d.path + "/disk";
  fs::create_directories(disk);
  say(d.path, list(disk_volume("eng", "v", disk)));
  std::ofstream(disk + "/file") << "old";
  fb::link::SetResourcesT s;
  s.total = list(disk_volume("ops", "v", disk));
  const Buffer b = pack(s);
  auto changes = change_volumes(d.path, *view<fb::link::SetResources>(b), "reg");
  std::ofstream(disk + "/file") << "new";  // a task of the new volume is faster than the deletion
  remove_trash(changes.trash);
  EXPECT_EQ(seen(disk), std::vector<std::string>{"file"});
}

TEST(Volumes, TrashOfAnEarlierLifeIsDeleted) {
  Dir d;
  say(d.path, list(volume("eng", "a"), volume("eng", "b")));
  fb::link::SetResourcesT s;
  s.total = list(volume("eng", "b"));
  const Buffer b = pack(s);
  const auto changes = change_volumes(d.path, *view<fb::link::SetResources>(b), "reg");
  ASSERT_EQ(changes.trash.size(), 1u);
  EXPECT_TRUE(fs::exists(changes.trash[0]));  // the agent is killed here
  say(d.path, list(volume("eng", "b")));
  EXPECT_FALSE(fs::exists(changes.trash[0]));
  EXPECT_TRUE(say(d.path, list(volume("eng", "b"))).trash.empty());
}

// Nothing that a lost registry knew is deleted, and nobody else gets it.
TEST(Volumes, ADiskOfALostRegistryKeepsItsDataFromOthers) {
  Dir d;
  const std::string disk = d.path + "/disk";
  fs::create_directories(disk);
  say(d.path, list(disk_volume("eng", "v", disk)));
  std::ofstream(disk + "/secret") << "x";
  EXPECT_EQ(say(d.path, {}, "other").problems.size(), 1u);
  EXPECT_TRUE(fs::exists(disk + "/secret"));
  say(d.path, {}, "other");
  EXPECT_TRUE(fs::exists(disk + "/secret"));
  const auto changes = say(d.path, list(disk_volume("ops", "v", disk)), "other");
  EXPECT_EQ(changes.problems.size(), 1u);
  EXPECT_TRUE(seen(disk).empty());
  std::size_t found = 0;
  for (const auto& e : fs::recursive_directory_iterator(disk)) found += e.path().filename() == "secret";
  EXPECT_EQ(found, 1u);
  // The one who had it gets it back, had nobody else come in between.
  Dir other;
  fs::create_directories(other.path + "/disk");
  say(other.path, list(disk_volume("eng", "v", other.path + "/disk")));
  std::ofstream(other.path + "/disk/secret") << "x";
  say(other.path, {}, "other");
  say(other.path, list(disk_volume("eng", "v", other.path + "/disk")), "other");
  EXPECT_TRUE(fs::exists(other.path + "/disk/secret"));
}

TEST(Volumes, ADiskThatCannotBeClearedCannotBeUsed) {
  Dir d;
  const std::string disk = d.path + "/disk", sandbox = d.path + "/sandbox";
  fs::create_directories(disk);
  fs::create_directories(sandbox);
  say(d.path, list(disk_volume("eng", "v", disk)));
  std::ofstream(disk + "/secret") << "x";
  fs::create_directories(d.path + "/meta/volumes.trash.new");  // what is moved cannot be noted
  EXPECT_FALSE(say(d.path, list(disk_volume("ops", "v", disk))).problems.empty());
  EXPECT_TRUE(fs::exists(disk + "/secret"));
  EXPECT_FALSE(link_volumes(d.path, sandbox, list(disk_volume("ops", "v", disk)), Account{}));
  EXPECT_TRUE(link_volumes(d.path, sandbox, list(disk_volume("eng", "v", disk)), Account{}));
  fs::remove_all(d.path + "/meta/volumes.trash.new");
  say(d.path, list(disk_volume("ops", "v", disk)));
  EXPECT_TRUE(seen(disk).empty());
  fs::remove_all(sandbox);
  fs::create_directories(sandbox);
  EXPECT_TRUE(link_volumes(d.path, sandbox, list(disk_volume("ops", "v", disk)), Account{}));
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
