// What TF-Serving does with a batching file and a warm-up file, by the libraries that it does it with:
// protobuf's text format in C++, TensorFlow's reader of records and its loader.
//
//   tf_serving DESCRIPTORS text FILE...      each as BatchingParameters: its bytes in hex, or "refused"
//   tf_serving DESCRIPTORS warm VERSION      replays the requests; num_faces of each, a line a request
//
// DESCRIPTORS is a serialized FileDescriptorSet with TF-Serving's messages.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/dynamic_message.h"
#include "google/protobuf/text_format.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/public/session_options.h"

using google::protobuf::Message;
using tensorflow::Tensor;

namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << "\n";
  std::exit(1);
}

const Message& Inner(const Message& message, const char* name) {
  return message.GetReflection()->GetMessage(message,
                                             message.GetDescriptor()->FindFieldByName(name));
}

std::string Text(const Message& message, const char* name) {
  return message.GetReflection()->GetString(message,
                                            message.GetDescriptor()->FindFieldByName(name));
}

void ReadTexts(const Message& empty, int count, char** files) {
  for (int i = 0; i < count; ++i) {
    std::unique_ptr<Message> message(empty.New());
    if (!google::protobuf::TextFormat::ParseFromString(Read(files[i]), message.get())) {
      std::cout << "refused\n";
      continue;
    }
    for (const unsigned char byte : message->SerializeAsString()) std::printf("%02x", byte);
    std::printf("\n");
    std::fflush(stdout);
  }
}

void WarmUp(const Message& empty, const std::string& version) {
  tensorflow::SavedModelBundle bundle;
  Check(tensorflow::LoadSavedModel(tensorflow::SessionOptions(), {}, version, {"serve"}, &bundle));
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  Check(tensorflow::Env::Default()->NewRandomAccessFile(
      version + "/assets.extra/tf_serving_warmup_requests", &file));
  tensorflow::io::SequentialRecordReader records(file.get());
  tensorflow::tstring record;
  while (records.ReadRecord(&record).ok()) {
    std::unique_ptr<Message> log(empty.New());
    if (!log->ParseFromString(std::string(record))) Check(absl::DataLossError("no PredictionLog"));
    const Message& request = Inner(Inner(*log, "predict_log"), "request");
    const auto& signature =
        bundle.GetSignatures().at(Text(Inner(request, "model_spec"), "signature_name"));
    std::vector<std::pair<std::string, Tensor>> inputs;
    const auto* field = request.GetDescriptor()->FindFieldByName("inputs");
    for (int i = 0; i < request.GetReflection()->FieldSize(request, field); ++i) {
      const Message& entry = request.GetReflection()->GetRepeatedMessage(request, field, i);
      tensorflow::TensorProto proto;
      Tensor tensor;
      if (!proto.ParseFromString(Inner(entry, "value").SerializeAsString()) ||
          !tensor.FromProto(proto))
        Check(absl::DataLossError("no tensor"));
      inputs.emplace_back(signature.inputs().at(Text(entry, "key")).name(), tensor);
    }
    std::vector<Tensor> answer;
    Check(bundle.GetSession()->Run(inputs, {signature.outputs().at("num_faces").name()}, {},
                                   &answer));
    const auto faces = answer[0].vec<int>();
    for (int row = 0; row < faces.size(); ++row) std::cout << (row ? " " : "") << faces(row);
    std::cout << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  google::protobuf::FileDescriptorSet set;
  set.ParseFromString(Read(argv[1]));
  google::protobuf::DescriptorPool pool;
  for (const auto& file : set.file()) pool.BuildFile(file);
  google::protobuf::DynamicMessageFactory messages(&pool);
  const auto empty = [&](const char* name) -> const Message& {
    return *messages.GetPrototype(pool.FindMessageTypeByName(name));
  };
  if (std::string(argv[2]) == "text")
    ReadTexts(empty("tensorflow.serving.BatchingParameters"), argc - 3, argv + 3);
  else
    WarmUp(empty("tensorflow.serving.PredictionLog"), argv[3]);
}
