// The chain's object: reads at once, and the pool.
#include "evm_chain.h"

#include "base/threads.h"

#include "chain/records.h"
#include "evm_submit.h"

namespace evm {

namespace {

using zg::Address;
using zg::ByteView;
using zg::Bytes;
using zg::Hash;
using zg::U256;

constexpr size_t kReadersWaitingMax = 20'000;
constexpr size_t kConsensusWaitingMax = 1'000;
// Tells the object from others that have been given one of its methods.
constexpr napi_type_tag kTag = {0x7a672d65766d2d63, 0x6861696e2d303031};

bool get_address(Call& c, size_t i, Address& out) {
  ByteView v;
  if (!get_bytes(c.env, c.argv[i], v) || v.size() != 20) {
    throw_type(c.env, "an address is a Uint8Array of 20 bytes");
    return false;
  }
  out = Address::from(v.data());
  return true;
}

bool get_hash(Call& c, size_t i, Hash& out) {
  ByteView v;
  if (!get_bytes(c.env, c.argv[i], v) || v.size() != 32) {
    throw_type(c.env, "a hash is a Uint8Array of 32 bytes");
    return false;
  }
  out = Hash::from(v.data());
  return true;
}

bool state_of(Call& c, size_t i, std::shared_ptr<const zg::StateView>& state) {
  At at;
  if (!get_at(c, i, at)) return false;
  zg::Header header;
  if (const zg::Failure f = resolve(*c.chain, at, state, header)) {
    throw_failure(c.env, f);
    return false;
  }
  return true;
}

// ---- reads

napi_value head(Call& c) { return make_head(c.env, *c.chain->head()); }

napi_value account(Call& c) {
  Address address;
  std::shared_ptr<const zg::StateView> state;
  if (!get_address(c, 0, address) || !state_of(c, 1, state)) return nullptr;
  zg::AccountData data;
  if (!state->account(address, data)) return undefined(c.env);
  napi_value out = nullptr;
  if (napi_create_object(c.env, &out) != napi_ok) return nullptr;
  set(c.env, out, "nonce", make_bigint(c.env, data.nonce));
  set(c.env, out, "balance", make_bigint(c.env, data.balance));
  set(c.env, out, "codeHash", make_bytes(c.env, data.code_hash.view()));
  return out;
}

napi_value code(Call& c) {
  Address address;
  std::shared_ptr<const zg::StateView> state;
  if (!get_address(c, 0, address) || !state_of(c, 1, state)) return nullptr;
  zg::AccountData data;
  if (!state->account(address, data) || data.code_hash == zg::empty_code_hash()) return make_bytes(c.env, ByteView{});
  return make_bytes(c.env, state->code(data.code_hash)->bytes());
}

napi_value storage(Call& c) {
  Address address;
  Hash slot;
  std::shared_ptr<const zg::StateView> state;
  if (!get_address(c, 0, address) || !get_hash(c, 1, slot) || !state_of(c, 2, state)) return nullptr;
  return make_bytes(c.env, state->storage(address, U256::from(slot)).be().view());
}

napi_value header_by_number(Call& c) {
  uint64_t number = 0;
  if (!get_number(c.env, c.argv[0], number)) {
    throw_type(c.env, "a block number is a whole number");
    return nullptr;
  }
  zg::Header header;
  if (!c.chain->header(number, header)) return undefined(c.env);
  return make_bytes(c.env, encode_header(header));
}

napi_value number_of(Call& c) {
  Hash hash;
  uint64_t number = 0;
  if (!get_hash(c, 0, hash)) return nullptr;
  return c.chain->number_of(hash, number) ? make_number(c.env, static_cast<double>(number)) : undefined(c.env);
}

napi_value locate(Call& c) {
  Hash hash;
  if (!get_hash(c, 0, hash)) return nullptr;
  const auto place = c.chain->locate(hash);
  if (!place) return undefined(c.env);
  napi_value out = nullptr;
  if (napi_create_object(c.env, &out) != napi_ok) return nullptr;
  set(c.env, out, "number", make_number(c.env, static_cast<double>(place->number)));
  set(c.env, out, "index", make_number(c.env, place->index));
  return out;
}

napi_value by_sender_and_nonce(Call& c) {
  Address sender;
  U256 nonce;
  if (!get_address(c, 0, sender)) return nullptr;
  if (!get_bigint(c.env, c.argv[1], nonce) || !nonce.is_u64()) {
    throw_type(c.env, "a nonce is a bigint of 64 bits");
    return nullptr;
  }
  const auto hash = c.chain->by_sender_and_nonce(sender, nonce.low());
  return hash ? make_bytes(c.env, hash->view()) : undefined(c.env);
}

// ---- the pool

napi_value submit(Call& c) {
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(c.env, c.argv[0], &is_array) != napi_ok || !is_array || napi_get_array_length(c.env, c.argv[0], &count) != napi_ok) {
    throw_type(c.env, "raw transactions are an array of Uint8Array");
    return nullptr;
  }
  auto job = std::make_unique<SubmitJob>();
  job->ends.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    napi_value item = nullptr;
    ByteView v;
    if (napi_get_element(c.env, c.argv[0], i, &item) != napi_ok || !get_bytes(c.env, item, v)) {
      throw_type(c.env, "raw transactions are an array of Uint8Array");
      return nullptr;
    }
    job->bytes.insert(job->bytes.end(), v.begin(), v.end());
    job->ends.push_back(job->bytes.size());
  }
  const napi_value promise = c.handle->bridge->begin(c.env, *job);
  if (promise == nullptr) return nullptr;
  auto refused = std::make_unique<SubmitJob>();
  refused->deferred = job->deferred;
  refused->failure = {zg::ChainError::rejected, "too many transactions wait to be looked at"};
  if (!c.handle->submits->post(std::move(job))) c.handle->bridge->post(std::move(refused));
  return promise;
}

napi_value pooled(Call& c) {
  Hash hash;
  if (!get_hash(c, 0, hash)) return nullptr;
  const auto tx = c.chain->pool().get(hash);
  if (tx == nullptr) return undefined(c.env);
  zg::rlp::Writer w;
  write_transaction(w, *tx);
  return make_bytes(c.env, std::move(w.out));
}

napi_value pending_nonce(Call& c) {
  Address address;
  if (!get_address(c, 0, address)) return nullptr;
  return make_bigint(c.env, c.chain->pool().pending_nonce(address));
}

napi_value pool_content(Call& c) {
  zg::Pool::Content content;
  if (is_undefined(c.env, c.argv[0])) {
    content = c.chain->pool().content();
  } else {
    Address sender;
    if (!get_address(c, 0, sender)) return nullptr;
    content = c.chain->pool().content_of(sender);
  }
  zg::rlp::Writer w;
  const size_t at = w.open();
  for (const auto* list : {&content.pending, &content.queued}) {
    const size_t items = w.open();
    for (const auto& tx : *list) write_transaction(w, *tx);
    w.close(items);
  }
  w.close(at);
  return make_bytes(c.env, std::move(w.out));
}

napi_value pool_counts(Call& c) {
  const auto counts = c.chain->pool().counts();
  napi_value out = nullptr;
  if (napi_create_object(c.env, &out) != napi_ok) return nullptr;
  set(c.env, out, "pending", make_number(c.env, static_cast<double>(counts.pending)));
  set(c.env, out, "queued", make_number(c.env, static_cast<double>(counts.queued)));
  set(c.env, out, "bytes", make_number(c.env, static_cast<double>(counts.bytes)));
  return out;
}

napi_value make_bool(napi_env env, bool x) {
  napi_value v = nullptr;
  return napi_get_boolean(env, x, &v) == napi_ok ? v : nullptr;
}

napi_value pool_remove(Call& c) {
  Hash hash;
  if (!get_hash(c, 0, hash)) return nullptr;
  return make_bool(c.env, c.chain->pool().remove(hash));
}

napi_value pool_clear(Call& c) {
  c.chain->pool().clear();
  return undefined(c.env);
}

napi_value has_executable(Call& c) { return make_bool(c.env, c.chain->pool().has_executable()); }

napi_value take_announced(Call& c) {
  const auto hashes = c.chain->pool().take_announced();
  Bytes joined;
  joined.reserve(hashes.size() * 32);
  for (const Hash& h : hashes) joined.insert(joined.end(), h.b, h.b + 32);
  return make_bytes(c.env, std::move(joined));
}

napi_value set_next(Call& c) {
  U256 base_fee, gas_limit;
  if (!get_bigint(c.env, c.argv[0], base_fee) || !get_bigint(c.env, c.argv[1], gas_limit) || !gas_limit.is_u64()) {
    throw_type(c.env, "base fee and gas limit are bigints");
    return nullptr;
  }
  c.chain->set_next(base_fee, gas_limit.low());
  return undefined(c.env);
}

// ---- blocks that wait for their commit

napi_value payload(Call& c) {
  Hash hash;
  if (!get_hash(c, 0, hash)) return nullptr;
  auto block = c.chain->kept(hash, nullptr);
  if (block == nullptr) block = c.chain->by_hash(hash);
  return block == nullptr ? undefined(c.env) : make_bytes(c.env, encode_record(*block, true));
}

napi_value payload_requests(Call& c) {
  Hash hash;
  std::vector<Bytes> requests;
  if (!get_hash(c, 0, hash)) return nullptr;
  if (c.chain->kept(hash, &requests) == nullptr) return undefined(c.env);
  zg::rlp::Writer w;
  const size_t at = w.open();
  for (const Bytes& r : requests) w.bytes(r);
  w.close(at);
  return make_bytes(c.env, std::move(w.out));
}

napi_value stats(Call& c) {
  napi_value out = nullptr;
  if (napi_create_object(c.env, &out) != napi_ok) return nullptr;
  for (const auto& [name, value] : c.chain->stats()) set(c.env, out, name.c_str(), make_number(c.env, value));
  for (const auto& [name, value] : c.chain->memory()) set(c.env, out, name.c_str(), make_number(c.env, value));
  return out;
}

napi_value close(napi_env env, napi_callback_info info);

napi_value refuse_this(napi_env env) {
  throw_type(env, "this is no chain");
  return nullptr;
}

std::shared_ptr<ChainHandle> unwrap(napi_env env, napi_value self) {
  bool is_chain = false;
  void* data = nullptr;
  if (self == nullptr || napi_check_object_type_tag(env, self, &kTag, &is_chain) != napi_ok || !is_chain) return nullptr;
  if (napi_unwrap(env, self, &data) != napi_ok || data == nullptr) return nullptr;
  return *static_cast<std::shared_ptr<ChainHandle>*>(data);
}

// Ends everything on a thread of its own: it waits for others.
class CloseJob final : public Job {
 public:
  explicit CloseJob(std::shared_ptr<ChainHandle> handle) : handle_(std::move(handle)) {}
  void work() override {
    handle_->end_close();
    handle_.reset();
  }
  napi_value value(napi_env env) override { return undefined(env); }

 private:
  std::shared_ptr<ChainHandle> handle_;
};

napi_value close(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  size_t argc = 0;
  (void)napi_get_cb_info(env, info, &argc, nullptr, &self, nullptr);
  const auto handle = unwrap(env, self);
  if (handle == nullptr) return refuse_this(env);
  auto job = std::make_unique<CloseJob>(handle);
  const napi_value promise = handle->bridge->begin(env, *job);
  if (promise == nullptr) return nullptr;
  handle->begin_close();
  std::thread([bridge = handle->bridge, job = std::move(job)]() mutable {
    job->work();
    bridge->post(std::move(job));
  }).detach();
  return promise;
}

}  // namespace

// ---- the handle

ChainHandle::ChainHandle(std::shared_ptr<Bridge> b, std::shared_ptr<zg::Chain> chain, unsigned threads)
    : bridge(std::move(b)),
      consensus(bridge, 1, kConsensusWaitingMax),
      readers(bridge, std::max(2u, threads), kReadersWaitingMax),
      submits(std::make_unique<SubmitQueue>(bridge, *chain)),
      chain_(std::move(chain)) {}

ChainHandle::~ChainHandle() { end_close(); }

std::shared_ptr<zg::Chain> ChainHandle::chain() const {
  const std::lock_guard lock(mutex_);
  return is_closing_ ? nullptr : chain_;
}

void ChainHandle::begin_close() {
  const std::lock_guard lock(mutex_);
  is_closing_ = true;
}

void ChainHandle::end_close() {
  begin_close();
  watchdog.raise_all();
  submits->finish();
  consensus.finish();
  readers.finish();
  std::shared_ptr<zg::Chain> last;
  {
    const std::lock_guard lock(mutex_);
    last.swap(chain_);
  }
  if (last != nullptr) last->close();
}

bool enter(napi_env env, napi_callback_info info, Call& call) {
  call.env = env;
  size_t argc = Call::kArguments;
  napi_value self = nullptr;
  // What was not given is undefined.
  if (napi_get_cb_info(env, info, &argc, call.argv, &self, nullptr) != napi_ok) return false;
  call.handle = unwrap(env, self);
  if (call.handle == nullptr) {
    (void)refuse_this(env);
    return false;
  }
  call.chain = call.handle->chain();
  if (call.chain == nullptr) {
    throw_failure(env, {zg::ChainError::stopped, "the chain is closed"});
    return false;
  }
  return true;
}

napi_value start(Call& call, Workers& workers, std::unique_ptr<Job> job) {
  const napi_value promise = call.handle->bridge->begin(call.env, *job);
  if (promise == nullptr) return nullptr;
  auto refused = std::make_unique<CloseJob>(nullptr);
  refused->deferred = job->deferred;
  refused->failure = {zg::ChainError::rejected, "too many requests wait"};
  if (!workers.post(std::move(job))) call.handle->bridge->post(std::move(refused));
  return promise;
}

bool get_at(Call& call, size_t argument, At& out) {
  out.is_head = is_undefined(call.env, call.argv[argument]);
  if (out.is_head || get_number(call.env, call.argv[argument], out.number)) return true;
  throw_type(call.env, "a block number is a whole number, or undefined for the head");
  return false;
}

zg::Failure resolve(zg::Chain& chain, const At& at, std::shared_ptr<const zg::StateView>& state, zg::Header& header) {
  const auto now = chain.head();
  if (at.is_head || at.number == now->header.number) {
    state = now->state;
    header = now->header;
    return {};
  }
  zg::Failure failure;
  state = chain.state_at(at.number, failure);
  if (failure) return failure;
  if (!chain.header(at.number, header)) return {zg::ChainError::not_found, "there is no block " + std::to_string(at.number)};
  return {};
}

napi_value make_head(napi_env env, const zg::Chain::Head& head) {
  napi_value out = nullptr;
  if (napi_create_object(env, &out) != napi_ok) return nullptr;
  set(env, out, "number", make_number(env, static_cast<double>(head.header.number)));
  set(env, out, "hash", make_bytes(env, head.hash.view()));
  set(env, out, "header", make_bytes(env, encode_header(head.header)));
  set(env, out, "version", make_number(env, static_cast<double>(head.version)));
  return out;
}

napi_value make_chain_object(napi_env env, const std::shared_ptr<ChainHandle>& handle) {
  napi_value out = nullptr;
  if (napi_create_object(env, &out) != napi_ok) return nullptr;
  // This thread answers everybody from now on.
  zg::become_prompt_thread();
  auto* owned = new std::shared_ptr<ChainHandle>(handle);
  const auto drop = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<ChainHandle>*>(data); };
  if (napi_wrap(env, out, owned, drop, nullptr, nullptr) != napi_ok) {
    delete owned;
    return nullptr;
  }
  if (napi_type_tag_object(env, out, &kTag) != napi_ok) return nullptr;
  std::vector<napi_property_descriptor> properties = {
      method_property<head>("head"),
      method_property<account>("account"),
      method_property<code>("code"),
      method_property<storage>("storage"),
      method_property<header_by_number>("headerByNumber"),
      method_property<number_of>("numberOf"),
      method_property<locate>("locate"),
      method_property<by_sender_and_nonce>("bySenderAndNonce"),
      method_property<submit>("submit"),
      method_property<pooled>("pooled"),
      method_property<pending_nonce>("pendingNonce"),
      method_property<pool_content>("poolContent"),
      method_property<pool_counts>("poolCounts"),
      method_property<pool_remove>("poolRemove"),
      method_property<pool_clear>("poolClear"),
      method_property<has_executable>("hasExecutable"),
      method_property<take_announced>("takeAnnounced"),
      method_property<set_next>("setNext"),
      method_property<payload>("payload"),
      method_property<payload_requests>("payloadRequests"),
      method_property<stats>("stats"),
      {"close", nullptr, close, nullptr, nullptr, nullptr, napi_enumerable, nullptr}};
  for (const auto& p : job_methods()) properties.push_back(p);
  if (trace_hooks.methods != nullptr)
    for (const auto& p : trace_hooks.methods()) properties.push_back(p);
  if (napi_define_properties(env, out, properties.size(), properties.data()) != napi_ok) return nullptr;
  set(env, out, "genesisHash", make_bytes(env, handle->chain()->genesis_hash().view()));
  return out;
}

}  // namespace evm
