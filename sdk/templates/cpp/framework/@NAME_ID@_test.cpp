#include "@NAME_ID@.hpp"

#include <gantry/testing/host.hpp>

#include <gtest/gtest.h>

namespace @NAME_ID@ {
namespace {

using namespace gantry;
using namespace std::chrono_literals;
using gantry::testing::Asked;

// The test is the master and the store.
class @CLASS@Test : public ::testing::Test {
 protected:
  void SetUp() override {
    host.serve(fb::host::Service::STORE, [this](Asked a) {
      if (a.method == static_cast<std::uint32_t>(fb::store::Method::GET)) return a.fail(fail(Code::not_found, "no record"));
      const auto commit = a.as<fb::store::Commit>();
      stored.assign(commit->ops[0]->value.begin(), commit->ops[0]->value.end());
      a.ok(fb::store::CommittedT{});
    });
    host.serve(fb::host::Service::CLUSTER, [this](Asked a) {
      calls.push_back(std::move(*a.as<fb::Call>()));
      if (a.method == static_cast<std::uint32_t>(fb::host::ClusterMethod::SUBSCRIBE)) master = a;
      else a.ok();
    });
    ASSERT_TRUE(m.configure({{"role", "*"}, {"user", ""}, {"failover_timeout", 1h}}));
    ASSERT_TRUE(m.start());
  }
  ~@CLASS@Test() override { EXPECT_EQ(host.faults(), std::vector<std::string>{}); }  // no breach of the ABI
  void event(fb::EventT e) {
    master.more(e);
    host.run();
  }
  void subscribed() {
    fb::EventT e;
    e.type = fb::EventType::SUBSCRIBED;
    e.subscribed = std::make_unique<fb::SubscribedT>();
    e.subscribed->framework_id = "f-1";
    event(std::move(e));
  }
  Asked master;
  std::string stored;
  std::vector<fb::CallT> calls;
  gantry::testing::Host host;
  gantry::testing::Subject<@CLASS@> m{host, "@NAME@"};
};

TEST_F(@CLASS@Test, SubscribesAnswersOffersAndAcknowledges) {
  subscribed();
  EXPECT_EQ(stored, "f-1");
  fb::EventT offers;
  offers.type = fb::EventType::OFFERS;
  offers.offers = std::make_unique<fb::OffersT>();
  offers.offers->offers.push_back(std::make_unique<fb::OfferT>());
  offers.offers->offers[0]->id = "o-1";
  event(std::move(offers));
  EXPECT_EQ(calls.back().type, fb::CallType::DECLINE);
  EXPECT_EQ(calls.back().framework_id, "f-1");
  fb::EventT update;
  update.type = fb::EventType::UPDATE;
  update.update = std::make_unique<fb::UpdateT>();
  update.update->status = std::make_unique<fb::TaskStatusT>();
  update.update->status->uuid = {1, 2, 3};
  event(std::move(update));
  EXPECT_EQ(calls.back().type, fb::CallType::ACKNOWLEDGE);
}

TEST_F(@CLASS@Test, ComesBackWithItsIdAfterTheMasterWent) {
  subscribed();
  master.fail(fail(Code::unavailable, "the master stepped down"));
  host.advance(1s);
  ASSERT_EQ(calls.back().type, fb::CallType::SUBSCRIBE);
  EXPECT_EQ(calls.back().subscribe->framework_info->id, "f-1");
  subscribed();
  ASSERT_TRUE(m.stop());
  EXPECT_TRUE(master.cancelled());
}

}  // namespace
}  // namespace @NAME_ID@
