// The one place where Boost.JSON is compiled for the tools.
#include <boost/json/src.hpp>
