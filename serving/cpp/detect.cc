// Faces of images by TensorFlow's C++ loader, as TF-Serving runs the export; prints JSON lines.
//
//   detect VERSION_FOLDER BATCH THREADS IMAGE...     so many images a request, requests on so many threads
//
// How to compile it against the TensorFlow of pip: README.md.
#include <algorithm>
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
void PrintFaces(const std::string& name, const Tensor& values, int row, int count) {
  const auto table = values.flat_inner_outer_dims<float, 3>(0);
  std::cout << ", \"" << name << "\": [";
  for (int face = 0; face < count; ++face)
    for (int i = 0; i < table.dimension(2); ++i)
      std::cout << (face + i ? ", " : "") << table(row, face, i);
  std::cout << "]";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: detect VERSION_FOLDER BATCH THREADS IMAGE...\n";
    return 2;
  }
  const int count = argc - 4, batch = std::max(1, std::atoi(argv[2]));
  tensorflow::SavedModelBundle bundle;
  const auto loaded = tensorflow::LoadSavedModel(tensorflow::SessionOptions(), {}, argv[1],
                                                 {"serve"}, &bundle);
  if (!loaded.ok()) {
    std::cerr << loaded << "\n";
    return 1;
  }
  const auto& signature = bundle.GetSignatures().at("serving_default");
  std::vector<std::string> names = {"num_faces", "status"}, fetches;
  for (const auto& [name, output] : signature.outputs())
    if (output.dtype() == tensorflow::DT_FLOAT) names.push_back(name);
  for (const auto& name : names) fetches.push_back(signature.outputs().at(name).name());

  std::vector<std::vector<Tensor>> answers((count + batch - 1) / batch);
  std::atomic<int> next{0};
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads(std::max(1, std::atoi(argv[3])));
  for (auto& thread : threads)
    thread = std::thread([&] {
      for (int i; (i = next++) < static_cast<int>(answers.size());) {
        Tensor images(tensorflow::DT_STRING, {std::min(batch, count - i * batch)});
        for (int row = 0; row < images.dim_size(0); ++row)
          images.vec<tstring>()(row) = Read(argv[4 + i * batch + row]);
        const auto status = bundle.GetSession()->Run(
            {{signature.inputs().at("image_bytes").name(), images}}, fetches, {}, &answers[i]);
        if (status.ok()) continue;
        std::cerr << status << "\n";
        failed = true;
      }
    });
  for (auto& thread : threads) thread.join();
  if (failed) return 1;

  std::cout.precision(9);
  for (int image = 0; image < count; ++image) {
    const auto& answer = answers[image / batch];
    const int row = image % batch, faces = answer[0].vec<int>()(row);
    std::cout << "{\"image\": " << image << ", \"status\": " << answer[1].vec<int>()(row);
    for (size_t i = 2; i < names.size(); ++i) PrintFaces(names[i], answer[i], row, faces);
    std::cout << "}\n";
  }
}
