/* A libcuda.so.1 that prints what it is asked: cuda-bindings itself can be called where there is no driver. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

static char function[64];

int cuInit(unsigned flags) {
    setvbuf(stdout, 0, _IONBF, 0);
    return 0;
}
int cuDriverGetVersion(int* version) { return *version = 13010, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = 10 + ordinal, 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)(uintptr_t)(100 + device), 0; }
int cuCtxSetCurrent(void* context) { return printf("context %td\n", (intptr_t)context), 0; }

/* CUDA_ERROR_INVALID_IMAGE for what is no ELF. */
int cuModuleLoadData(void** module, const char* image) {
    *module = (void*)200;
    printf("load %s\n", image + 1);
    return image[0] == 0x7f ? 0 : 200;
}

int cuModuleGetFunction(void** found, void* module, const char* name) {
    snprintf(function, sizeof function, "%s", name);
    *found = function;
    return printf("function %s of %td\n", name, (intptr_t)module), 0;
}

/* The arguments of `k` in test_driver.py; CUDA_ERROR_INVALID_VALUE for 999 blocks. */
int cuLaunchKernel(void* found, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void** extra) {
    printf("launch %s, grid %u %u %u, block %u %u %u, shared %u, stream %td, extra %td: x[2] %g, n %lld, s %g, seed %llu\n",
           (char*)found, gx, gy, gz, bx, by, bz, shared, (intptr_t)stream, (intptr_t)extra, (*(float**)arguments[0])[2],
           *(long long*)arguments[1], *(float*)arguments[2], *(unsigned long long*)arguments[3]);
    return gx == 999;
}

/* How cuda-bindings finds all others. */
int cuGetProcAddress_v2(const char* symbol, void** found, int version, uint64_t flags, int* status) {
    *found = dlsym(dlopen("libcuda.so.1", RTLD_LAZY), symbol);
    if (status) *status = *found == 0;
    return *found ? 0 : 500; /* CUDA_ERROR_NOT_FOUND */
}
int cuGetProcAddress(const char*, void**, int, uint64_t, int*) __attribute__((alias("cuGetProcAddress_v2")));
