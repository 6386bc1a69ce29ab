// Seeded random lives of a small cluster; the books are checked after every step (Cluster::pump), and at the end, when
// all faults have stopped, master and agents must agree.
#include "life.hpp"

namespace gantry::master {
namespace {

TEST(Random, BooksHoldAndMasterAndAgentsAgreeInTheEnd) {
  int tasks = 0;
  for (unsigned seed = 1; seed <= 60 && !testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life life(seed);
    for (int i = 0; i < 250 && !testing::Test::HasFatalFailure(); ++i) life.step();
    life.settle();
    const auto books = life.c.core->check();
    ASSERT_TRUE(books) << books.error().message;
    ASSERT_GE(life.c.core->agent_count(), 3u);
    fb::control::TasksT rows;
    Core::Cursor cursor;
    ASSERT_FALSE(life.c.core->list_tasks({}, cursor, 10000, rows));
    std::set<std::string> known, running;
    for (const auto& r : rows.tasks)
      if (!terminal(r->state)) known.insert(r->info->task_id);
    for (const auto& a : life.agents)
      for (const auto& [id, t] : a.tasks)
        if (!terminal(t.second)) running.insert(id);
    ASSERT_EQ(known, running);
    tasks += life.last_task;
  }
  EXPECT_GT(tasks, 100) << "nothing much happened";
}

}  // namespace
}  // namespace gantry::master
