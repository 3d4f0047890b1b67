// Written by scripts/derive_gradient.py; not edited by hand.
#pragma once

namespace vmf_ops::coefficients {

inline constexpr double gauss_nodes_4[4] = {
    0x1.1c6490c2719ecp-4,
    0x1.51ee013116102p-2,
    0x1.5708ff6774f7fp-1,
    0x1.dc736de7b1cc2p-1,
};

inline constexpr double gauss_weights_4[4] = {
    0x1.64340f7e7b666p-3,
    0x1.4de5f840c24cdp-2,
    0x1.4de5f840c24cdp-2,
    0x1.64340f7e7b666p-3,
};

inline constexpr double gauss_nodes_6[6] = {
    0x1.149ad8bfaff18p-5, 0x1.5aebed3546d44p-3, 0x1.85d3b4bf2628fp-2,
    0x1.3d1625a06ceb9p-1, 0x1.a94504b2ae4afp-1, 0x1.eeb652740500ep-1,
};

inline constexpr double gauss_weights_6[6] = {
    0x1.5edf601e2dbf5p-4, 0x1.716b7b5794c1ep-3, 0x1.df24d499545e8p-3,
    0x1.df24d499545e8p-3, 0x1.716b7b5794c1ep-3, 0x1.5edf601e2dbf5p-4,
};

inline constexpr double gauss_nodes_9[9] = {
    0x1.04d4d140defa0p-6, 0x1.4fceec3cbf5a0p-4, 0x1.8be85bf1004e8p-3, 0x1.59fb748dbaacdp-2, 0x1.0000000000000p-1,
    0x1.530245b922a9ap-1, 0x1.9d05e903bfec6p-1, 0x1.d60622786814cp-1, 0x1.f7d95975f9083p-1,
};

inline constexpr double gauss_weights_9[9] = {
    0x1.4ce65f803eee6p-5, 0x1.71f7a9b222be9p-4, 0x1.0add87c827509p-3, 0x1.3fd7e9838d513p-3, 0x1.522a43f65486bp-3,
    0x1.3fd7e9838d513p-3, 0x1.0add87c827509p-3, 0x1.71f7a9b222be9p-4, 0x1.4ce65f803eee6p-5,
};

inline constexpr double gauss_nodes_10[10] = {
    0x1.ab83f3aa1a500p-7, 0x1.1459a858d3434p-4, 0x1.4848dbae43cd0p-3, 0x1.2219ffb7f4a92p-2, 0x1.b3c6be1db8762p-2,
    0x1.261ca0f123c4fp-1, 0x1.6ef3002405ab7p-1, 0x1.adedc9146f0ccp-1, 0x1.dd74caf4e597ap-1, 0x1.f951f0315796cp-1,
};

inline constexpr double gauss_weights_10[10] = {
    0x1.1115f8b62dc1fp-5, 0x1.32138c878efdep-4, 0x1.c0b059d00bc30p-4, 0x1.13baa7a559c01p-3, 0x1.2e9de7014d6eep-3,
    0x1.2e9de7014d6eep-3, 0x1.13baa7a559c01p-3, 0x1.c0b059d00bc30p-4, 0x1.32138c878efdep-4, 0x1.1115f8b62dc1fp-5,
};

inline constexpr double gauss_nodes_12[12] = {
    0x1.2e1c4e37a2fe0p-7, 0x1.88bc58023ba68p-5, 0x1.d73d4449dc328p-4, 0x1.a6961f47f100ep-3,
    0x1.43ab96faba732p-2, 0x1.bfe1681c273c7p-2, 0x1.200f4bf1ec61cp-1, 0x1.5e2a3482a2c67p-1,
    0x1.965a782e03bfcp-1, 0x1.c5185776c479bp-1, 0x1.e7743a7fdc45ap-1, 0x1.fb478ec721740p-1,
};

inline constexpr double gauss_weights_12[12] = {
    0x1.8275d9dea6d53p-6, 0x1.b60602bce61afp-5, 0x1.47d7258f22d96p-4, 0x1.a0163e6b1ab6bp-4,
    0x1.de3155c256aaep-4, 0x1.fe40ce6d4f022p-4, 0x1.fe40ce6d4f022p-4, 0x1.de3155c256aaep-4,
    0x1.a0163e6b1ab6bp-4, 0x1.47d7258f22d96p-4, 0x1.b60602bce61afp-5, 0x1.8275d9dea6d53p-6,
};

inline constexpr double gauss_nodes_20[20] = {
    0x1.c252f9c718f80p-9, 0x1.2724584289610p-6, 0x1.677cdf4601370p-5, 0x1.497d0a840a464p-4, 0x1.03c191972b564p-3,
    0x1.74ae580b1de4ap-3, 0x1.f4df47d810012p-3, 0x1.40a998754d69ep-2, 0x1.8b5fa725b5d10p-2, 0x1.d8d1840ce8f2ap-2,
    0x1.13973df98b86bp-1, 0x1.3a502c6d25178p-1, 0x1.5fab33c5594b1p-1, 0x1.82c82e09fbffcp-1, 0x1.a2d469fd3886ep-1,
    0x1.bf0f9b9a352a7p-1, 0x1.d6d05eaf7eb74p-1, 0x1.e988320b9fec9p-1, 0x1.f6c6dd3debb50p-1, 0x1.fe3dad0638e70p-1,
};

inline constexpr double gauss_weights_20[20] = {
    0x1.209680274e74ep-7, 0x1.4c9b5ea53b638p-6, 0x1.00b467df7e461p-5, 0x1.5519fe196e247p-5, 0x1.a1817a317a834p-5,
    0x1.e41ff31573b56p-5, 0x1.0db2c5db26e08p-4, 0x1.230348f34a542p-4, 0x1.31819b52c59a4p-4, 0x1.38d6c490a3380p-4,
    0x1.38d6c490a3380p-4, 0x1.31819b52c59a4p-4, 0x1.230348f34a542p-4, 0x1.0db2c5db26e08p-4, 0x1.e41ff31573b56p-5,
    0x1.a1817a317a834p-5, 0x1.5519fe196e247p-5, 0x1.00b467df7e461p-5, 0x1.4c9b5ea53b638p-6, 0x1.209680274e74ep-7,
};

inline constexpr double arcsine_start[4] = {
    0x1.fffb3436a71a6p-1,
    0x1.5a1249d094280p-3,
    0x1.b5340f9738a00p-5,
    0x1.a5897b4864800p-4,
};

inline constexpr double psi_rows[20][8] = {
    {2.0, -1.0},
    {0.0, -1.0},
    {0.0, 2.0, -4.5, 2.5},
    {4.0, 0.0, -4.5, 2.5},
    {0.0, -5.0, -2.5, 2.5},
    {0.0, 0.0, 1.5, 1.5},
    {0.0, 6.0, -14.0, -4.5, 27.5, -15.0},
    {0.0, 10.0, -23.0, 0.5, 27.5, -15.0},
    {12.0, 6.0, -31.5, 12.0, 22.5, -15.0},
    {0.0, -26.0, -26.0, 25.5, 13.0, -12.5},
    {0.0, 0.0, 17.5, 26.25, 0.0, -8.75},
    {0.0, 0.0, 0.0, -3.75, -7.5, -3.75},
    {0.0, 24.0, -56.0, -92.0, 273.625, -29.625, -258.125, 138.125},
    {0.0, 36.0, -84.0, -101.0, 328.625, -59.625, -258.125, 138.125},
    {0.0, 54.0, -137.0, -62.5, 365.125, -129.625, -228.125, 138.125},
    {48.0, 48.0, -218.0, 45.0, 352.625, -204.125, -170.625, 123.125},
    {0.0, -154.0, -231.0, 231.0, 245.875, -254.625, -91.875, 100.625},
    {0.0, 0.0, 170.0, 340.0, 14.375, -240.625, -14.375, 70.625},
    {0.0, 0.0, 0.0, -78.75, -196.875, -118.125, 39.375, 39.375},
    {0.0, 0.0, 0.0, 0.0, 13.125, 39.375, 39.375, 13.125},
};

}  // namespace vmf_ops::coefficients
