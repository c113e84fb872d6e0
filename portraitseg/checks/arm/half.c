/* Convolutions as XNNPACK's kernels for half precision compute them: every product is added to a sum that is rounded to
 * 16 bits, tap by tap and channel by channel. Numbers are float, each one exactly representable in 16 bits.
 * A sum is rounded to 24 bits on its way, which moves one in some thousand by a step of 16 bits.
 */
#include <immintrin.h>
#include <stddef.h>

typedef struct {
    int height, width, channels;           /* of the input */
    int out_height, out_width, out;        /* of the output; `out` is a multiple of 8 in weights, bias and output */
    int kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, top, left;
    float low, high;                       /* of the activation */
} shape_t;

static inline __m256 rounded(__m256 x) { return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }

static inline __m256 clamped(__m256 x, const shape_t *s) {
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(s->low)), _mm256_set1_ps(s->high));
}

/* weights: kernel_height × kernel_width × channels × out */
void convolve(const shape_t *s, const float *input, const float *weights, const float *bias, float *output) {
    for (int y = 0; y < s->out_height; y++)
        for (int x = 0; x < s->out_width; x++) {
            float *to = output + ((size_t)y * s->out_width + x) * s->out;
            for (int first = 0; first < s->out; first += 32) {
                int blocks = (s->out - first) / 8 < 4 ? (s->out - first) / 8 : 4;
                __m256 sum[4];
                for (int b = 0; b < 4; b++) sum[b] = b < blocks ? _mm256_loadu_ps(bias + first + 8 * b) : _mm256_setzero_ps();
                for (int ky = 0; ky < s->kernel_height; ky++) {
                    int row = y * s->stride_y - s->top + ky * s->dilation_y;
                    if (row < 0 || row >= s->height) continue; /* zeros change no sum */
                    for (int kx = 0; kx < s->kernel_width; kx++) {
                        int column = x * s->stride_x - s->left + kx * s->dilation_x;
                        if (column < 0 || column >= s->width) continue;
                        const float *from = input + ((size_t)row * s->width + column) * s->channels;
                        const float *w = weights + ((size_t)(ky * s->kernel_width + kx) * s->channels) * s->out + first;
                        for (int c = 0; c < s->channels; c++, w += s->out) {
                            __m256 value = _mm256_set1_ps(from[c]);
                            for (int b = 0; b < blocks; b++)
                                sum[b] = rounded(_mm256_fmadd_ps(value, _mm256_loadu_ps(w + 8 * b), sum[b]));
                        }
                    }
                }
                for (int b = 0; b < blocks; b++) _mm256_storeu_ps(to + first + 8 * b, clamped(sum[b], s));
            }
        }
}

/* weights: kernel_height × kernel_width × out; of 5×5 kernels two sums, of the even and of the odd taps (acc2) */
void convolve_depthwise(const shape_t *s, const float *input, const float *weights, const float *bias, float *output) {
    const int pair = s->kernel_height * s->kernel_width > 9;
    for (int y = 0; y < s->out_height; y++)
        for (int x = 0; x < s->out_width; x++) {
            float *to = output + ((size_t)y * s->out_width + x) * s->out;
            for (int first = 0; first < s->out; first += 8) {
                __m256 sum[2] = {_mm256_loadu_ps(bias + first), _mm256_setzero_ps()};
                for (int ky = 0; ky < s->kernel_height; ky++) {
                    int row = y * s->stride_y - s->top + ky * s->dilation_y;
                    if (row < 0 || row >= s->height) continue;
                    for (int kx = 0; kx < s->kernel_width; kx++) {
                        int column = x * s->stride_x - s->left + kx * s->dilation_x, tap = ky * s->kernel_width + kx;
                        if (column < 0 || column >= s->width) continue;
                        __m256 value = _mm256_loadu_ps(input + ((size_t)row * s->width + column) * s->out + first);
                        __m256 w = _mm256_loadu_ps(weights + (size_t)tap * s->out + first);
                        sum[tap & pair] = rounded(_mm256_fmadd_ps(value, w, sum[tap & pair]));
                    }
                }
                _mm256_storeu_ps(to + first, clamped(rounded(_mm256_add_ps(sum[0], sum[1])), s));
            }
        }
}
