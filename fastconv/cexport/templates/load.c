#define WEIGHTS INT64_C(@count@)

/* The checksum of zip and PNG files (ISO 3309). */
static uint32_t checksum(const unsigned char *bytes, size_t size)
{
    uint32_t table[256], sum = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? 0xedb88320u ^ (table[i] >> 1) : table[i] >> 1;
    }
    for (size_t i = 0; i < size; i++) sum = table[(sum ^ bytes[i]) & 255] ^ (sum >> 8);
    return ~sum;
}

/* A file is a magic text, the version, bytes of a value, their number and checksum, and the values. */
static int load_weights(const char *path, real *weights)
{
    static const unsigned char expected[32] = {@header@};
    const size_t size = (size_t)WEIGHTS * sizeof(real);
    unsigned char header[32];
    int status = @NAME@_OK;
    FILE *file = fopen(path, "rb");
    if (!file) return @NAME@_CANNOT_READ;
    if (fread(header, 1, sizeof header, file) != sizeof header) status = @NAME@_CANNOT_READ;
    else if (memcmp(header, expected, sizeof header) != 0) status = @NAME@_BAD_WEIGHTS;
    else if (fread(weights, 1, size, file) != size) status = @NAME@_CANNOT_READ;
    else if (fgetc(file) != EOF) status = @NAME@_BAD_WEIGHTS;
    else if (checksum((const unsigned char *)weights, size) != @checksum@u) status = @NAME@_BAD_WEIGHTS;
    fclose(file);
    return status;
}
