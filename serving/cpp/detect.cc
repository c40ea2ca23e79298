// Faces of images by TensorFlow's C++ loader, as TF-Serving runs the export; prints JSON lines.
//
//   detect VERSION_FOLDER THREADS IMAGE...     all images as one batch, asked for by each thread
//
// How to compile it against the TensorFlow of pip: README.md.
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session_options.h"

using tensorflow::Tensor;
using tensorflow::tstring;

namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::cerr << "Cannot read " << path << "\n";
    std::exit(2);
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// "name": [numbers of the first `count` faces of image `row`], any number of values a face.
void PrintFaces(const char* name, const Tensor& values, int row, int count) {
  const auto table = values.flat_inner_outer_dims<float, 3>(0);
  std::cout << "\"" << name << "\": [";
  for (int face = 0; face < count; ++face)
    for (int i = 0; i < table.dimension(2); ++i)
      std::cout << (face + i ? ", " : "") << table(row, face, i);
  std::cout << "]";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: detect VERSION_FOLDER THREADS IMAGE...\n";
    return 2;
  }
  tensorflow::SavedModelBundle bundle;
  const auto loaded = tensorflow::LoadSavedModel(tensorflow::SessionOptions(), {}, argv[1],
                                                 {"serve"}, &bundle);
  if (!loaded.ok()) {
    std::cerr << loaded << "\n";
    return 1;
  }
  const auto& signature = bundle.GetSignatures().at("serving_default");
  const std::vector<std::string> names = {"boxes", "scores", "num_faces", "status"};
  std::vector<std::string> fetches;
  for (const auto& name : names) fetches.push_back(signature.outputs().at(name).name());

  const int count = argc - 3;
  Tensor images(tensorflow::DT_STRING, {count});
  for (int i = 0; i < count; ++i) images.vec<tstring>()(i) = Read(argv[3 + i]);

  std::vector<std::vector<Tensor>> answers(std::max(1, std::atoi(argv[2])));
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (auto& answer : answers)
    threads.emplace_back([&] {
      const auto status = bundle.GetSession()->Run(
          {{signature.inputs().at("image_bytes").name(), images}}, fetches, {}, &answer);
      if (status.ok()) return;
      std::cerr << status << "\n";
      failed = true;
    });
  for (auto& thread : threads) thread.join();
  if (failed) return 1;

  std::cout.precision(9);
  for (const auto& answer : answers)
    for (int row = 0; row < count; ++row) {
      const int faces = answer[2].vec<int>()(row);
      std::cout << "{\"image\": " << row << ", \"status\": " << answer[3].vec<int>()(row) << ", ";
      PrintFaces("boxes", answer[0], row, faces);
      std::cout << ", ";
      PrintFaces("scores", answer[1], row, faces);
      std::cout << "}\n";
    }
}
