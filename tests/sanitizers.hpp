// What this binary is instrumented with; gcc and clang tell it each in its own way.
#pragma once

namespace gantry::testing {

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GANTRY_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define GANTRY_TSAN 1
#endif
#endif

#if defined(GANTRY_TSAN) || defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#if defined(GANTRY_ASAN) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

}  // namespace gantry::testing
