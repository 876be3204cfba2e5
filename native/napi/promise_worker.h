// A promise for work on a worker thread.
#pragma once

#include <napi.h>

// result() turns what Execute() computed into a value, on the JavaScript thread; without it the promise is of undefined.
class PromiseWorker : public Napi::AsyncWorker {
 public:
  PromiseWorker(Napi::Env env, const char* name) : AsyncWorker(env, name), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  virtual Napi::Value result(Napi::Env env) { return env.Undefined(); }
  void OnOK() override {
    const Napi::Env env = Env();
    const Napi::Value value = result(env);
    if (env.IsExceptionPending()) {
      deferred_.Reject(env.GetAndClearPendingException().Value());
    } else {
      deferred_.Resolve(value);
    }
  }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
};
