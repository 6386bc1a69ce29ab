#include "curl.hpp"

GANTRY_MODULE(gantry::fetcher_curl::CurlFetcher, "curl")
