// What ThreadSanitizer must know of gRPC in `make tsan`: Debian's gRPC and Abseil are not instrumented, so it
// sees their memory and not the locks that guard it. Races in our own code, on threads that gRPC does not run,
// stay errors.
#ifdef __SANITIZE_THREAD__
extern "C" const char* __tsan_default_options() { return "ignore_noninstrumented_modules=1"; }
extern "C" const char* __tsan_default_suppressions() {
  return "race:libgrpc\nrace:libgpr\nrace:libabsl\nrace:grpc::\ndeadlock:libgrpc\nmutex:libgrpc\n";
}
#endif
