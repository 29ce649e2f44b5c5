// A recorder in front of NVRTC: passes every call on to the real library, and keeps each program that is compiled, with
// its options, the compiler's log, what came out, and the time that it took. Environment:
//
//   NVRTC_REAL     path of the real library
//   NVRTC_RECORD   folder for NNNN.cu (source), .log, .ptx and NNNN.json (options, answer, seconds)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *real(const char *name) {
  static void *library;
  if (!library) {
    const char *path = getenv("NVRTC_REAL");
    library = dlopen(path ? path : "libnvrtc.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) { fprintf(stderr, "NVRTC_REAL: %s\n", dlerror()); abort(); }
  }
  void *symbol = dlsym(library, name);
  if (!symbol) { fprintf(stderr, "NVRTC has no %s\n", name); abort(); }
  return symbol;
}
#define REAL(name) ((__typeof__(&name))real(#name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
typedef struct Program { void *handle; char *source; struct Program *next; } Program;
static Program *programs;

int nvrtcVersion(int *major, int *minor) { return REAL(nvrtcVersion)(major, minor); }
int nvrtcGetNumSupportedArchs(int *count) { return REAL(nvrtcGetNumSupportedArchs)(count); }
int nvrtcGetSupportedArchs(int *archs) { return REAL(nvrtcGetSupportedArchs)(archs); }
const char *nvrtcGetErrorString(int error) { return REAL(nvrtcGetErrorString)(error); }
int nvrtcGetPTXSize(void *p, size_t *size) { return REAL(nvrtcGetPTXSize)(p, size); }
int nvrtcGetPTX(void *p, char *text) { return REAL(nvrtcGetPTX)(p, text); }
int nvrtcGetCUBINSize(void *p, size_t *size) { return REAL(nvrtcGetCUBINSize)(p, size); }
int nvrtcGetCUBIN(void *p, char *text) { return REAL(nvrtcGetCUBIN)(p, text); }
int nvrtcGetProgramLogSize(void *p, size_t *size) { return REAL(nvrtcGetProgramLogSize)(p, size); }
int nvrtcGetProgramLog(void *p, char *text) { return REAL(nvrtcGetProgramLog)(p, text); }
int nvrtcDestroyProgram(void **p) { return REAL(nvrtcDestroyProgram)(p); }

int nvrtcCreateProgram(void **program, const char *source, const char *name, int count, const char *const *headers,
                       const char *const *names) {
  int answer = REAL(nvrtcCreateProgram)(program, source, name, count, headers, names);
  Program *own = malloc(sizeof *own);
  pthread_mutex_lock(&lock);
  *own = (Program){*program, strdup(source), programs};
  programs = own;
  pthread_mutex_unlock(&lock);
  return answer;
}

static void keep(const char *folder, int number, const char *ending, const char *text, size_t size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%d-%04d.%s", folder, (int)getpid(), number, ending);
  FILE *file = fopen(path, "w");
  if (!file) { perror(path); abort(); }
  fwrite(text, 1, size, file);
  fclose(file);
}

int nvrtcCompileProgram(void *program, int count, const char *const *options) {
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  int answer = REAL(nvrtcCompileProgram)(program, count, options);
  clock_gettime(CLOCK_MONOTONIC, &end);
  const char *folder = getenv("NVRTC_RECORD");
  if (!folder) return answer;
  static int counter;
  pthread_mutex_lock(&lock);
  int number = counter++;
  const char *source = "";
  for (Program *own = programs; own; own = own->next)
    if (own->handle == program) { source = own->source; break; }
  keep(folder, number, "cu", source, strlen(source));
  size_t size = 0;
  if (nvrtcGetProgramLogSize(program, &size) == 0 && size > 1) {
    char *log = calloc(1, size + 1);
    nvrtcGetProgramLog(program, log);
    keep(folder, number, "log", log, strlen(log));
    free(log);
  }
  if (answer == 0 && nvrtcGetPTXSize(program, &size) == 0) {
    char *ptx = calloc(1, size + 1);
    nvrtcGetPTX(program, ptx);
    keep(folder, number, "ptx", ptx, strlen(ptx));
    free(ptx);
  }
  char line[4096];
  int at = snprintf(line, sizeof line, "{\"answer\": %d, \"seconds\": %.4f, \"options\": [", answer,
                    (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
  for (int i = 0; i < count && at < 4000; i++)
    at += snprintf(line + at, sizeof line - (size_t)at, "%s\"%s\"", i ? ", " : "", options[i]);
  at += snprintf(line + at, sizeof line - (size_t)at, "]}\n");
  keep(folder, number, "json", line, (size_t)at);
  pthread_mutex_unlock(&lock);
  return answer;
}
