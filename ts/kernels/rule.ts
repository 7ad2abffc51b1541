// Made from crate/ by `npm run kernels`; do not edit it.

export const average: string = "average !},}>}8#!!!#+#}+'}J}J}J}J!%B#3QR}/}:}B}9}3}4}7}7}*}-}2Q}5}>)}8}0}8}:}=}D%##}K}K'&%#!*.#*},}A}0}=},}2}0!!-}j##}g#&#}G&}F#}J%eC%C&t0!C#N&;E'i!!!!!!!!}/j0!C'~'~p6D)C%f%}?E+C#K%S}5D!C#K%[C+}5D#&eC!~p!!!D(C#C'i!!!!!!~cd}-'}FC#~p!!!E*C)C(C*~p~V#~p~W#~p~U#(C(.~p.!!C!f3}5D!C#f3}5D#C%f'}5E%C&n0!...";
