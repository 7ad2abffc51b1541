// SGD, SGD with momentum, Adam and AdamW in plain C, for native.ts: reads one request per line, and measures its own steps.
//   make RULE COUNT SIZE...   makes tensors; answers "ok"
//   time COUNT PAUSE          makes COUNT steps, each after PAUSE milliseconds of other work; answers their nanoseconds
//   end                       frees the tensors; answers "ok"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { P, G, M, V, ARRAYS };
typedef struct {
  size_t size;
  float *array[ARRAYS];
} Tensor;

static void sgd(size_t n, float *restrict p, const float *restrict g) {
  for (size_t i = 0; i < n; i++) p[i] -= 1e-3f * g[i];
}

static void momentum(size_t n, float *restrict p, const float *restrict g, float *restrict b) {
  for (size_t i = 0; i < n; i++) {
    b[i] = 0.9f * b[i] + g[i];
    p[i] -= 1e-3f * b[i];
  }
}

static void adam(size_t n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v, float keep, float rate, float scale) {
  for (size_t i = 0; i < n; i++) {
    m[i] = 0.9f * m[i] + 0.1f * g[i];
    v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
    p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i]) * scale + 1e-8f);
  }
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
  char line[1 << 16], rule[32] = "";
  Tensor *tensors = NULL;
  size_t count = 0;
  int step = 0;
  while (fgets(line, sizeof line, stdin)) {
    char *word = strtok(line, " \n");
    if (!strcmp(word, "make")) {
      snprintf(rule, sizeof rule, "%s", strtok(NULL, " \n"));
      count = strtoull(strtok(NULL, " \n"), NULL, 10);
      tensors = calloc(count, sizeof *tensors);
      step = 0;
      for (size_t i = 0; i < count; i++) {
        size_t n = tensors[i].size = strtoull(strtok(NULL, " \n"), NULL, 10);
        for (int a = 0; a < ARRAYS; a++) {
          float *array = tensors[i].array[a] = aligned_alloc(64, (n * 4 + 63) / 64 * 64);
          if (!array) return 1;
          for (size_t j = 0; j < n; j++) array[j] = a == P ? 0.5f : a == G ? 0.01f * sinf((float)(j % 65521) * (float)(j % 65521)) : 0;
        }
      }
      puts("ok");
    } else if (!strcmp(word, "time")) {
      int runs = atoi(strtok(NULL, " \n"));
      int64_t pause = (int64_t)(atof(strtok(NULL, " \n")) * 1e6), total = 0;
      for (int run = 0; run < runs; run++) {
        for (int64_t end = now() + pause; pause && now() < end;);
        int64_t start = now();
        step++;
        float rate = (float)(1e-3 / (1 - pow(0.9, step))), scale = (float)(1 / sqrt(1 - pow(0.999, step)));
        for (size_t i = 0; i < count; i++) {
          float **a = tensors[i].array;
          if (!strcmp(rule, "sgd")) sgd(tensors[i].size, a[P], a[G]);
          else if (!strcmp(rule, "momentum")) momentum(tensors[i].size, a[P], a[G], a[M]);
          else adam(tensors[i].size, a[P], a[G], a[M], a[V], !strcmp(rule, "adamw") ? 1 - 1e-5f : 1, rate, scale);
        }
        total += now() - start;
      }
      printf("%lld\n", (long long)total);
    } else {
      for (size_t i = 0; i < count; i++) for (int a = 0; a < ARRAYS; a++) free(tensors[i].array[a]);
      free(tensors);
      tensors = NULL;
      count = 0;
      puts("ok");
    }
    fflush(stdout);
  }
}
