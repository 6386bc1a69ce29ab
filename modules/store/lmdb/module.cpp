#include "lmdb_store.hpp"

GANTRY_MODULE(gantry::store_lmdb::LmdbStore, "lmdb")
