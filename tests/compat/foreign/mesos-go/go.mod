module gantry-foreign/mesos-go

go 1.21

require (
	github.com/beorn7/perks v0.0.0-20180321164747-3a771d992973
	github.com/gogo/protobuf v1.3.2
	github.com/golang/protobuf v1.2.0
	github.com/matttproud/golang_protobuf_extensions v1.0.1
	github.com/mesos/mesos-go v0.0.11
	github.com/pborman/uuid v1.2.0
	github.com/pquerna/ffjson v0.0.0-20190930134022-aa0246cd15f7
	github.com/prometheus/client_golang v0.8.0
	github.com/prometheus/client_model v0.0.0-20180712105110-5c3871d89910
	github.com/prometheus/common v0.0.0-20181113130724-41aa239b4cce
	github.com/prometheus/procfs v0.0.0-20181005140218-185b4288413d
)
