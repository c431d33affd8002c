// What a warp's requests cost memory: wavefronts of shared memory, sectors of global memory, beside the fewest possible.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

namespace twin {

class Traffic {
public:
    struct Line {  // of one instruction
        uint64_t code, shared, requests, cost, fewest;
    };

    void clear() { counts_.clear(), bytes_.clear(); }

    // A thread's access; its n-th by an instruction belongs to the request of its warp's n-th.
    void add(uint64_t code, int thread, bool shared, uintptr_t address, unsigned bytes) {
        uint64_t n = counts_[{code, thread}]++;
        std::set<uintptr_t>& touched = bytes_[{code, shared, thread / 32, n}];
        unsigned unit = shared ? 4 : 1;
        for (unsigned i = 0; i < bytes; i += unit) touched.insert((address + i) / unit);
    }

    std::vector<Line> lines() const {
        std::map<std::pair<uint64_t, bool>, Line> found;
        for (const auto& [key, touched] : bytes_) {
            const auto& [code, shared, warp, n] = key;
            Line& line = found.try_emplace({code, shared}, Line{code, shared, 0, 0, 0}).first->second;
            uint64_t room = 32;  // banks, or bytes of a sector
            ++line.requests;
            line.cost += shared ? wavefronts(touched) : sectors(touched);
            line.fewest += (touched.size() + room - 1) / room;
        }
        std::vector<Line> all;
        for (const auto& entry : found) all.push_back(entry.second);
        return all;
    }

private:
    static uint64_t wavefronts(const std::set<uintptr_t>& words) {
        uint64_t banks[32] = {}, most = 0;
        for (uintptr_t word : words) most = std::max(most, ++banks[word % 32]);
        return most;
    }
    static uint64_t sectors(const std::set<uintptr_t>& bytes) {
        std::set<uintptr_t> all;
        for (uintptr_t byte : bytes) all.insert(byte / 32);
        return all.size();
    }

    std::map<std::pair<uint64_t, int>, uint64_t> counts_;
    std::map<std::tuple<uint64_t, bool, int, uint64_t>, std::set<uintptr_t>> bytes_;
};

}  // namespace twin
