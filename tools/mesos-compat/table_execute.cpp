// Flags of mesos-execute, in order of names.
#include "tables.hpp"

namespace gantry::compat {
namespace {

constexpr Flag kExecute[] = {
    {"appc_image", Kind::text, "", Fate::maps, "Appc image.", ""},
    {"bounding_capabilities", Kind::contents, "", Fate::maps, "Capabilities the task may get, as JSON.", ""},
    {"checkpoint", Kind::boolean, "false", Fate::maps, "Whether tasks survive a restart of their agent.", ""},
    {"command", Kind::text, "", Fate::maps, "Command to run.", ""},
    {"containerizer", Kind::text, "mesos", Fate::maps, "Containerizer: mesos or docker.", ""},
    {"content_type", Kind::text, "protobuf", Fate::maps, "Encoding: json or protobuf. It makes no difference to what happens.", ""},
    {"docker_image", Kind::text, "", Fate::maps, "Image of Docker: name:tag.", ""},
    {"effective_capabilities", Kind::contents, "", Fate::maps, "Capabilities the task gets, as JSON.", ""},
    {"env", Kind::contents, "", Fate::maps, "Environment, as JSON {\"name\": \"value\"} or the file it is in.", ""},
    {"framework_capabilities", Kind::text, "", Fate::maps,
     "Capabilities besides those a framework has in any case, with commas; GPU_RESOURCES is one.", ""},
    {"hadoop", Kind::text, "hadoop", Fate::nothing, "Program of Hadoop.", ""},
    {"hdfs", Kind::text, "localhost:9000", Fate::nothing, "NameNode of HDFS.", ""},
    {"help", Kind::boolean, "false", Fate::maps, "Prints this help.", ""},
    {"kill_after", Kind::duration, "", Fate::maps, "Time after which the task is killed.", ""},
    {"master", Kind::text, "", Fate::maps, "host:port of the master's API.", "", true},
    {"name", Kind::text, "", Fate::maps, "Name and id of the task.", ""},
    {"networks", Kind::text, "", Fate::maps, "Networks the container joins, with commas.", ""},
    {"overwrite", Kind::boolean, "false", Fate::nothing, "Whether it may replace one that is there.", ""},
    {"package", Kind::text, "", Fate::nothing, "File put into HDFS and into the sandbox.", ""},
    {"partition_aware", Kind::boolean, "true", Fate::maps, "Whether the framework knows of partitions.", ""},
    {"principal", Kind::text, "", Fate::maps, "Principal of the framework.", ""},
    {"resources", Kind::text, "cpus:1;mem:128", Fate::maps, "Resources of the task.", ""},
    {"rlimits", Kind::contents, "", Fate::maps, "Limits of the task's processes, as JSON.", ""},
    {"role", Kind::text, "*", Fate::maps, "Role of the framework.", ""},
    {"secret", Kind::text, "", Fate::maps, "Secret of that principal.", ""},
    {"shell", Kind::boolean, "true", Fate::maps, "Whether a shell runs the command.", ""},
    {"task", Kind::contents, "", Fate::maps, "TaskInfo as JSON, or the file it is in; instead of --name and --command.", ""},
    {"task_group", Kind::contents, "", Fate::maps, "TaskGroupInfo as JSON, or the file it is in.", ""},
    {"tty", Kind::boolean, "false", Fate::maps, "Whether the container has a terminal.", ""},
    {"volumes", Kind::contents, "", Fate::maps, "Volumes as JSON, or the file they are in.", ""},
};

}  // namespace

std::span<const Flag> execute_flags() { return kExecute; }

}  // namespace gantry::compat
