/* Another vendor's CUDA library. */
int cuInit(unsigned int flags);

int cuInit(unsigned int flags)
{
    return flags == 0 ? 100 : 1;
}
