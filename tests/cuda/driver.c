// A CUDA driver without a GPU: enough of `libcuda` for the CUDA backend to start, allocate, copy, compile and launch.
// Kernels are not run, so results are zeros; what it shows is which kernels are launched, that they compile, and what
// the program says on machines that are not as it expects. Environment:
//
//   FAKE_CUDA_CAPABILITY   compute capability times ten (90)
//   FAKE_CUDA_DRIVER       version that the driver says it is of (13000)
//   FAKE_CUDA_DEVICES      number of devices (1)
//   FAKE_CUDA_MEMORY       MiB of a device's memory (81920); an allocation beyond it fails
//   FAKE_CUDA_FREE         MiB of it that are free at the start (all)
//   FAKE_CUDA_INIT         what cuInit answers (0)
//   FAKE_CUDA_CONTEXT      what cuDevicePrimaryCtxRetain answers (0)
//   FAKE_CUDA_LOAD         what cuModuleLoadData answers (0)
//   FAKE_CUDA_LAUNCHES     a file to which every launch is added: name, grid, block, shared memory
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t used;
static int initialized;

static long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text && *text ? atol(text) : otherwise;
}

static size_t total(void) { return (size_t)setting("FAKE_CUDA_MEMORY", 81920) << 20; }
static size_t taken(void) {
  return total() - ((size_t)setting("FAKE_CUDA_FREE", setting("FAKE_CUDA_MEMORY", 81920)) << 20);
}

int cuInit(unsigned flags) {
  (void)flags;
  int answer = (int)setting("FAKE_CUDA_INIT", OK);
  initialized = answer == OK;
  return answer;
}
int cuDriverGetVersion(int *version) { *version = (int)setting("FAKE_CUDA_DRIVER", 13000); return OK; }
int cuDeviceGetCount(int *count) {
  *count = (int)setting("FAKE_CUDA_DEVICES", 1);
  return initialized ? OK : NOT_INITIALIZED;
}
int cuDeviceGet(int *device, int ordinal) {
  if (!initialized) return NOT_INITIALIZED;
  if (ordinal < 0 || ordinal >= setting("FAKE_CUDA_DEVICES", 1)) return INVALID_DEVICE;
  *device = ordinal;
  return OK;
}
int cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, (size_t)length, "fake device %d of capability %ld", device, setting("FAKE_CUDA_CAPABILITY", 90));
  return OK;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = total(); return OK; }
int cuMemGetInfo_v2(size_t *free, size_t *all) { *all = total(); *free = total() - taken() - used; return OK; }
// Shared memory of a multiprocessor (CUDA C++ Programming Guide, technical specifications by compute capability).
static int shared_memory(long capability) {
  switch (capability) {
    case 75: return 64 << 10;
    case 80: case 87: return 164 << 10;
    case 86: case 89: case 120: return 100 << 10;
    default: return 228 << 10;
  }
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  long capability = setting("FAKE_CUDA_CAPABILITY", 90);
  switch (attribute) {
    case 1: *value = 1024; break;                      // threads of a block
    case 2: case 3: *value = 1024; break;              // x, y of a block
    case 4: *value = 64; break;                        // z of a block
    case 5: *value = 2147483647; break;                // x of a grid
    case 6: case 7: *value = 65535; break;             // y, z of a grid
    case 8: *value = 49152; break;                     // shared memory of a block
    case 10: *value = 32; break;                       // threads of a warp
    case 12: *value = 65536; break;                    // registers of a block
    case 16: *value = 132; break;                      // multiprocessors
    case 75: *value = (int)(capability / 10); break;   // capability, major
    case 76: *value = (int)(capability % 10); break;   // capability, minor
    case 81: *value = shared_memory(capability); break;
    case 97: *value = capability == 75 ? 65536 : shared_memory(capability) - 1024; break;  // of a block, opt in
    case 115: *value = 1; break;                       // memory pools
    default: *value = 0;
  }
  return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = (void *)(intptr_t)(device + 1);
  return (int)setting("FAKE_CUDA_CONTEXT", OK);
}
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
int cuCtxSetCurrent(void *context) { (void)context; return OK; }
int cuCtxGetCurrent(void **context) { *context = (void *)1; return OK; }
int cuCtxSynchronize(void) { return OK; }
int cuGetErrorName(int error, const char **text) {
  static _Thread_local char name[32];
  switch (error) {
    case OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    default: snprintf(name, sizeof name, "CUDA_ERROR_%d", error); *text = name;
  }
  return OK;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }

// Streams and events: everything is done at once.
int cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = malloc(1); return OK; }
int cuStreamDestroy_v2(void *stream) { free(stream); return OK; }
int cuStreamSynchronize(void *stream) { (void)stream; return OK; }
int cuStreamQuery(void *stream) { (void)stream; return OK; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream; (void)event; (void)flags; return OK; }
int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = malloc(1); return OK; }
int cuEventRecord(void *event, void *stream) { (void)event; (void)stream; return OK; }
int cuEventQuery(void *event) { (void)event; return OK; }
int cuEventSynchronize(void *event) { (void)event; return OK; }
int cuEventDestroy_v2(void *event) { free(event); return OK; }
int cuEventElapsedTime(float *ms, void *a, void *b) { (void)a; (void)b; *ms = 0.001f; return OK; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }

// Memory: pages that are never written take no room. Sizes are kept in a table of their own.
typedef struct Block { void *at; size_t size; struct Block *next; } Block;
static Block *blocks;
int cuMemAlloc_v2(uint64_t *pointer, size_t size) {
  if (size == 0) return INVALID_VALUE;
  pthread_mutex_lock(&lock);
  int answer = OUT_OF_MEMORY;
  if (taken() + used + size <= total()) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) {
      Block *block = malloc(sizeof *block);
      *block = (Block){at, size, blocks};
      blocks = block;
      used += size;
      *pointer = (uint64_t)(uintptr_t)at;
      answer = OK;
    }
  }
  pthread_mutex_unlock(&lock);
  return answer;
}
int cuMemFree_v2(uint64_t pointer) {
  pthread_mutex_lock(&lock);
  int answer = INVALID_VALUE;
  for (Block **link = &blocks; *link; link = &(*link)->next) {
    Block *block = *link;
    if ((uint64_t)(uintptr_t)block->at == pointer) {
      munmap(block->at, block->size);
      used -= block->size;
      *link = block->next;
      free(block);
      answer = OK;
      break;
    }
  }
  pthread_mutex_unlock(&lock);
  return answer;
}
int cuMemAllocAsync(uint64_t *pointer, size_t size, void *stream) { (void)stream; return cuMemAlloc_v2(pointer, size); }
int cuMemFreeAsync(uint64_t pointer, void *stream) { (void)stream; return cuMemFree_v2(pointer); }
int cuMemAllocHost_v2(void **pointer, size_t size) {
  *pointer = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return *pointer != MAP_FAILED ? OK : OUT_OF_MEMORY;
}
int cuMemFreeHost(void *pointer) { (void)pointer; return OK; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  (void)stream;
  memcpy((void *)(uintptr_t)to, from, size);
  return OK;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  (void)stream;
  memcpy(to, (void *)(uintptr_t)from, size);
  return OK;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
  (void)stream;
  memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, size);
  return OK;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream) {
  (void)stream;
  memset((void *)(uintptr_t)to, value, size);
  return OK;
}
typedef struct {
  size_t from_x, from_y; int from_type; const void *from_host; uint64_t from_device; void *from_array;
  size_t from_pitch;
  size_t to_x, to_y; int to_type; void *to_host; uint64_t to_device; void *to_array; size_t to_pitch;
  size_t width, height;
} Copy2D;
int cuMemcpy2DAsync_v2(const Copy2D *copy, void *stream) {
  (void)stream;
  const char *from = copy->from_type == 1 ? copy->from_host : (const char *)(uintptr_t)copy->from_device;
  char *to = copy->to_type == 1 ? copy->to_host : (char *)(uintptr_t)copy->to_device;
  for (size_t row = 0; row < copy->height; row++)
    memcpy(to + (copy->to_y + row) * copy->to_pitch + copy->to_x,
           from + (copy->from_y + row) * copy->from_pitch + copy->from_x, copy->width);
  return OK;
}
int cuMemcpy2DUnaligned_v2(const Copy2D *copy) { return cuMemcpy2DAsync_v2(copy, NULL); }

// Modules: a function is its name.
int cuModuleLoadData(void **module, const void *image) {
  (void)image; *module = malloc(1);
  return (int)setting("FAKE_CUDA_LOAD", OK);
}
int cuModuleUnload(void *module) { free(module); return OK; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  (void)module; *function = strdup(name);
  return OK;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
  (void)function;
  // Dynamic shared memory beyond what a block may have.
  int most = 0;
  cuDeviceGetAttribute(&most, 97, 0);
  return attribute == 8 && value > most ? INVALID_VALUE : OK;
}
int cuFuncGetAttribute(int *value, int attribute, void *function) {
  (void)attribute; (void)function; *value = 0;
  return OK;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  (void)stream; (void)arguments; (void)extra;
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || (size_t)bx * by * bz > 1024) return INVALID_VALUE;
  const char *path = getenv("FAKE_CUDA_LAUNCHES");
  if (path && *path) {
    pthread_mutex_lock(&lock);
    FILE *file = fopen(path, "a");
    if (file) {
      fprintf(file, "%s %u %u %u %u %u %u %u\n", (const char *)function, gx, gy, gz, bx, by, bz, shared);
      fclose(file);
    }
    pthread_mutex_unlock(&lock);
  }
  return OK;
}
int cuLaunchKernelEx(const void *config, void *function, void **arguments, void **extra) {
  (void)config; (void)function; (void)arguments; (void)extra;
  return OK;
}
int cuTensorMapEncodeTiled(void *map) { memset(map, 0, 128); return OK; }
int cuTensorMapEncodeIm2col(void *map) { memset(map, 0, 128); return OK; }
int cuTensorMapEncodeIm2colWide(void *map) { memset(map, 0, 128); return OK; }
