#include "kernel/module/graph.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::module {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Graph, KeepsTheOrderOfConfigurationWhereNothingElseIsNeeded) {
  const Order o = order({{"c", "1", {}}, {"a", "1", {}}, {"b", "1", {}}});
  EXPECT_THAT(o.problems, IsEmpty());
  EXPECT_THAT(o.nodes, ElementsAre(0, 1, 2));
}
TEST(Graph, PutsWhatIsNeededFirst) {
  const Order o = order({{"framework", "services", {"store", "election.zk"}},
                         {"store", "a", {}},
                         {"election", "zk", {"store.b"}},
                         {"store", "b", {}}});
  EXPECT_THAT(o.problems, IsEmpty());
  EXPECT_THAT(o.nodes, ElementsAre(1, 3, 2, 0));
}
TEST(Graph, NamesWhatIsMissing) {
  const Order o = order({{"framework", "services", {"store", "election.zk"}}, {"election", "other", {}}});
  EXPECT_THAT(o.problems, ElementsAre(AllOf(HasSubstr("framework.services needs a module of kind store"),
                                            HasSubstr("add a [store.<name>] table")),
                                      AllOf(HasSubstr("needs module election.zk"), HasSubstr("[election.zk]"))));
}
TEST(Graph, PrintsACycleAsAPath) {
  const Order o = order({{"x", "0", {"a"}}, {"a", "1", {"b.2"}}, {"b", "2", {"c"}}, {"c", "3", {"a.1"}}});
  EXPECT_THAT(o.problems, ElementsAre(HasSubstr("a.1 -> b.2 -> c.3 -> a.1;")));
}
TEST(Graph, AModuleThatNeedsItselfIsACycle) {
  EXPECT_THAT(order({{"a", "1", {"a.1"}}}).problems, ElementsAre(HasSubstr("a.1 -> a.1")));
}

}  // namespace
}  // namespace gantry::module
