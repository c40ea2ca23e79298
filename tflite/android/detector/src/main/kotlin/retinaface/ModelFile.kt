package retinaface

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/**
 * A .tflite file of `retinaface-tf export`, whole and unchanged since it was written.
 *
 * The file carries a JSON block that begins with the sha256 of all its other bytes. It is checked
 * here before the interpreter, which is C++ and trusts what it reads, sees a byte. That protects
 * against damage, not against an author who means harm.
 *
 * @property content the file's bytes in a direct buffer, as interpreters want them.
 * @property metadata what the file says about itself.
 */
class ModelFile private constructor(val content: ByteBuffer, val metadata: ModelMetadata) {
    companion object {
        private val SEAL = "{\"retinaface_tf_sha256\": \"".toByteArray(Charsets.US_ASCII)
        private const val DIGEST_LENGTH = 64
        private const val MAX_BLOCK = 1 shl 16

        /**
         * Checks and reads a file.
         *
         * @param bytes all of the file.
         * @param name what messages call it.
         * @throws ModelException the file is empty, cut off, damaged or another program's.
         */
        fun read(bytes: ByteArray, name: String): ModelFile {
            if (bytes.isEmpty()) throw ModelException("$name is empty: export or copy it again.")
            val start = find(SEAL, bytes, 0)
            if (start < 4 || find(SEAL, bytes, start + 1) >= 0 || start + SEAL.size + DIGEST_LENGTH > bytes.size) {
                throw ModelException(
                    "$name does not describe itself as a file of `retinaface-tf export` does: it is another " +
                        "program's, or damaged. Export it again.",
                )
            }
            if (!isSealed(bytes, start + SEAL.size)) {
                throw ModelException(
                    "$name is truncated or damaged: its bytes are not those that were exported. Copy or " +
                        "export it again.",
                )
            }
            val metadata = ModelMetadata.parse(block(bytes, start, name), name)
            val content = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder())
            content.put(bytes).rewind()
            return ModelFile(content, metadata)
        }

        /** The block fills a vector of bytes in the flatbuffer: its length stands before it. */
        private fun block(bytes: ByteArray, start: Int, name: String): String {
            val length = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getInt(start - 4)
            if (length !in SEAL.size..MAX_BLOCK || start + length > bytes.size) {
                throw ModelException("$name has a note of impossible length: export it again.")
            }
            return String(bytes, start, length, Charsets.UTF_8)
        }

        private fun isSealed(bytes: ByteArray, position: Int): Boolean {
            val sha256 = MessageDigest.getInstance("SHA-256")
            sha256.update(bytes, 0, position)
            sha256.update(ByteArray(DIGEST_LENGTH) { '0'.code.toByte() })
            val rest = position + DIGEST_LENGTH
            sha256.update(bytes, rest, bytes.size - rest)
            val digest = sha256.digest().joinToString("") { "%02x".format(it) }
            return digest == String(bytes, position, DIGEST_LENGTH, Charsets.ISO_8859_1)
        }

        private fun find(pattern: ByteArray, bytes: ByteArray, from: Int): Int {
            for (start in from..bytes.size - pattern.size) {
                if (pattern.indices.all { bytes[start + it] == pattern[it] }) return start
            }
            return -1
        }
    }
}
