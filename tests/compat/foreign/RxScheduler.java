// mesos-rxjava: launches tasks on the first offers over protobuf, prints a line of JSON for each thing it sees.
//   RxScheduler URI TASKS
import static rx.Observable.from;
import static rx.Observable.just;

import com.mesosphere.mesos.rx.java.MesosClient;
import com.mesosphere.mesos.rx.java.SinkOperation;
import com.mesosphere.mesos.rx.java.SinkOperations;
import com.mesosphere.mesos.rx.java.protobuf.ProtobufMesosClientBuilder;
import com.mesosphere.mesos.rx.java.protobuf.SchedulerCalls;
import com.mesosphere.mesos.rx.java.util.UserAgentEntries;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Scanner;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.mesos.v1.Protos.CommandInfo;
import org.apache.mesos.v1.Protos.FrameworkID;
import org.apache.mesos.v1.Protos.Offer;
import org.apache.mesos.v1.Protos.Resource;
import org.apache.mesos.v1.Protos.TaskID;
import org.apache.mesos.v1.Protos.TaskInfo;
import org.apache.mesos.v1.Protos.TaskStatus;
import org.apache.mesos.v1.Protos.Value;
import org.apache.mesos.v1.scheduler.Protos.Call;
import org.apache.mesos.v1.scheduler.Protos.Event;
import rx.Observable;

public final class RxScheduler {
  static synchronized void say(String event, String more) {
    System.out.println("{\"event\":\"" + event + "\"" + more + "}");
    System.out.flush();
  }

  static Resource scalar(String name, double value) {
    return Resource.newBuilder().setName(name).setType(Value.Type.SCALAR).setScalar(Value.Scalar.newBuilder().setValue(value)).setRole("*").build();
  }

  static Call answer(FrameworkID framework, Offer offer, AtomicInteger next, int count) {
    if (next.get() >= count) return SchedulerCalls.decline(framework, Collections.singletonList(offer.getId()));
    List<TaskInfo> tasks = new ArrayList<>();
    while (next.get() < count) {
      String name = "rx-" + next.getAndIncrement();
      tasks.add(TaskInfo.newBuilder().setName(name).setTaskId(TaskID.newBuilder().setValue(name)).setAgentId(offer.getAgentId())
          .addResources(scalar("cpus", 0.1)).addResources(scalar("mem", 32))
          .setCommand(CommandInfo.newBuilder().setShell(true).setValue("sleep 1")).build());
    }
    return Call.newBuilder().setFrameworkId(framework).setType(Call.Type.ACCEPT)
        .setAccept(Call.Accept.newBuilder().addOfferIds(offer.getId()).addOperations(Offer.Operation.newBuilder()
            .setType(Offer.Operation.Type.LAUNCH).setLaunch(Offer.Operation.Launch.newBuilder().addAllTaskInfos(tasks)))).build();
  }

  public static void main(String[] args) throws Throwable {
    final int count = Integer.parseInt(args[1]);
    final AtomicInteger next = new AtomicInteger();
    final AtomicReference<FrameworkID> framework = new AtomicReference<>();
    final FrameworkID own = FrameworkID.newBuilder().setValue("rx-" + System.nanoTime()).build();
    final rx.subjects.PublishSubject<Call> said = rx.subjects.PublishSubject.create();
    final MesosClient<Call, Event> client = ProtobufMesosClientBuilder.schedulerUsingProtos().mesosUri(URI.create(args[0]))
        .applicationUserAgentEntry(UserAgentEntries.literal("rx-test", "1"))
        .subscribe(SchedulerCalls.subscribe(own, "root", "rxjava", 60))
        .processStream(unicast -> {
          final Observable<Event> events = unicast.share();
          final Observable<Call> calls = events.flatMap(event -> {
            switch (event.getType()) {
              case SUBSCRIBED:
                framework.set(event.getSubscribed().getFrameworkId());
                say("subscribed", ",\"framework\":\"" + framework.get().getValue() + "\",\"own\":\"" + own.getValue() + "\"");
                return Observable.<Call>empty();
              case HEARTBEAT:
                say("heartbeat", "");
                return Observable.<Call>empty();
              case OFFERS:
                say("offers", ",\"count\":" + event.getOffers().getOffersCount());
                return from(event.getOffers().getOffersList()).map(o -> answer(framework.get(), o, next, count));
              case UPDATE: {
                final TaskStatus s = event.getUpdate().getStatus();
                say("update", ",\"task\":\"" + s.getTaskId().getValue() + "\",\"state\":\"" + s.getState() + "\"");
                return s.hasUuid() ? just(SchedulerCalls.ackUpdate(framework.get(), s.getUuid(), s.getAgentId(), s.getTaskId()))
                                   : Observable.<Call>empty();
              }
              case ERROR:
                say("error", ",\"message\":\"" + event.getError().getMessage() + "\"");
                return Observable.<Call>empty();
              default:
                return Observable.<Call>empty();
            }
          });
          return calls.mergeWith(said).map(SinkOperations::create).map((SinkOperation<Call> o) -> Optional.of(o));
        }).build();
    final Thread words = new Thread(() -> {
      final Scanner in = new Scanner(System.in);
      while (in.hasNextLine())
        if (in.nextLine().trim().equals("teardown")) {
          said.onNext(Call.newBuilder().setFrameworkId(framework.get()).setType(Call.Type.TEARDOWN).build());
          said.onCompleted();  // so that the stream's end is the end of all
        }
    });
    words.setDaemon(true);
    words.start();
    try {
      client.openStream().await();
      say("ended", "");
    } catch (Throwable e) {
      e.printStackTrace(); say("ended", ",\"error\":\"" + e.getClass().getSimpleName() + "\"");
    }
    System.exit(0);
  }
}
