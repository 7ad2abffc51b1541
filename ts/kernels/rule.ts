// Made from crate/ by `npm run kernels`; do not edit it.

export const average: string = "average !},}>}8#!!!#+#}+'}J}J}J}J!%B#3QR}/}:}B}9}3}4}7}7}*}-}2Q}5}>)}8}0}8}:}=}D%##}K}K'&%#!*.#*},}A}0}=},}2}0!!-}R##}O#&#}G%}F#}J%eC%C&t0!C#N&;E'i!!!!!!!!}/j0!C'~'~p6D(C%f%}?E*C#K%[}5D!C#K%SC*}5D#&eC!C!~p!!!E)C(C#~p!!!C)~p~V#~p~W#~p~U#~p.!!C!f3}5D!C#f3}5D#C%f'}5E%C&n0!...";
