// Choose a token as llama_sampler_sample does, but give the chain the likeliest k tokens only.
//
// llama.cpp copies all logits into an array three times their size, of which the first filter keeps
// some forty. That takes the time of one percent of a decode or more where tokens are fast, and as
// much again because the copy evicts from the caches what the next decode needs.

#include <cstddef>
#include <cstdint>

namespace {

struct Candidate {  // llama_token_data
    int32_t id;
    float logit;
    float p;
};

struct Candidates {  // llama_token_data_array
    Candidate *data;
    size_t size;
    int64_t selected;
    bool sorted;
};

constexpr int kMost = 256;
constexpr int kLanes = 16, kBlock = 4 * kLanes;

// Restore the heap whose root is the least likely of the candidates, from `at` downwards.
void sift(Candidate *heap, int size, int at) {
    const Candidate moved = heap[at];
    for (;;) {
        int child = 2 * at + 1;
        if (child >= size) break;
        if (child + 1 < size && heap[child + 1].logit < heap[child].logit) ++child;
        if (heap[child].logit >= moved.logit) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

// Written in lanes, so that compilers use vectors without being allowed to reorder floats.
float largest(const float *values) {
    float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = values[i];
    for (int j = kLanes; j < kBlock; j += kLanes)
        for (int i = 0; i < kLanes; ++i)
            lanes[i] = values[j + i] > lanes[i] ? values[j + i] : lanes[i];
    float most = lanes[0];
    for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

// Leave the k likeliest of n tokens in `heap`, in no order.
void choose_likeliest(const float *logits, int n, int k, Candidate *heap) {
    for (int i = 0; i < k; ++i) heap[i] = {i, logits[i], 0.0f};
    for (int i = k / 2 - 1; i >= 0; --i) sift(heap, k, i);
    const auto offer = [&](int id) {
        if (logits[id] > heap[0].logit) {
            heap[0] = {id, logits[id], 0.0f};
            sift(heap, k, 0);
        }
    };
    int i = k;
    for (; i + kBlock <= n; i += kBlock)
        if (largest(logits + i) > heap[0].logit)
            for (int j = 0; j < kBlock; ++j) offer(i + j);
    for (; i < n; ++i) offer(i);
}

}  // namespace

#if defined(_WIN32)
#define EDGE_API extern "C" __declspec(dllexport)
#else
#define EDGE_API extern "C" __attribute__((visibility("default")))
#endif

// llama_sampler_apply, llama_sampler_accept, llama_get_logits_ith
using Apply = void (*)(void *, Candidates *);
using Accept = void (*)(void *, int32_t);
using GetLogits = const float *(*)(void *, int32_t);

EDGE_API int edge_choose_abi() { return 1; }

// Return the token that `chain` chooses of the k likeliest at `index` of the last batch, accepted;
// -1 if nothing was done.
EDGE_API int32_t edge_choose(void *chain, void *context, int32_t index, int32_t n_vocab, int32_t k,
                             Apply apply, Accept accept, GetLogits get_logits) {
    if (k < 1 || k > kMost || k > n_vocab) return -1;
    const float *logits = get_logits(context, index);
    if (logits == nullptr) return -1;
    Candidate candidates[kMost];
    choose_likeliest(logits, n_vocab, k, candidates);
    Candidates all{candidates, static_cast<size_t>(k), -1, false};
    apply(chain, &all);
    if (all.selected < 0 || all.selected >= static_cast<int64_t>(all.size)) return -1;
    const int32_t token = all.data[all.selected].id;
    accept(chain, token);
    return token;
}
